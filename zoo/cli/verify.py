"""``zoo verify``."""

from pathlib import Path

import click

from zoo.cli.options import output_options, print_json, registry_option, weights_options


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--parent", help="The weights it was trained from, a file or a tag: is the frozen part still theirs?")
@weights_options
@registry_option
@output_options
def verify_command(
    file: Path,
    parent: str | None,
    offline: bool,
    allow_pth: bool,
    locked: bool,
    registry: Path | None,
    as_json: bool,
    quiet: bool,
    traceback: bool,
) -> None:
    """Check that the artifact FILE gives the logits recorded in it, and that its frozen part is as recorded.

    Leaves with exit code 5 when it does not.
    """
    from zoo.jobs.proof import verify

    found = verify(file, parent=parent, offline=offline, allow_pth=allow_pth, locked=locked, registry=registry)
    if as_json:
        print_json(
            {
                "artifact": str(found.artifact),
                "verified": True,
                "largest_difference": found.largest_difference,
                "frozen_stages": found.frozen_stages,
                "parent": found.parent or None,
            }
        )
        return
    click.echo(f"{file}: verified")
    click.echo(f"  logits of the check input differ by {found.largest_difference:.1e} at most, relative to the largest")
    if found.frozen_stages:
        whose = f", and they are those of {found.parent}" if found.parent else ""
        click.echo(f"  the first {found.frozen_stages} stages are as every phase froze them{whose}")
    click.echo("  its figures are as its header states them: 'zoo evaluate' measures them again")

"""``zoo demo``."""

from pathlib import Path

import click

from zoo.cli.options import output_options, print_json


@click.command("demo")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the runs.  [default: runs/demo-N]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides everything random.")
@output_options
def demo_command(output: Path | None, seed: int, as_json: bool, quiet: bool, traceback: bool) -> None:
    """Run the whole job on real handwritten digits: train, freeze, fine-tune, export, verify, predict, report.

    Nothing is downloaded; it takes less than a minute on two cores.
    """
    from zoo.cli.finetune import print_figures
    from zoo.console import ConsoleProgress
    from zoo.jobs.demo import demo
    from zoo.runs import free_folder

    done = demo(output or free_folder(Path("runs"), "demo"), seed=seed, progress=ConsoleProgress(quiet=quiet))
    if as_json:
        print_json(done.summary())
        return
    print_figures(done.run.metrics)
    label, probability, truth = done.prediction
    click.echo(f"a handwritten {truth} is taken for {label} ({probability:.1%})")
    click.echo(
        f"verified: logits differ by {done.verification.largest_difference:.0e}, the first "
        f"{done.verification.frozen_stages} stages are the first run's, bit for bit"
    )
    click.echo(f"artifact  {done.run.artifact}")
    click.echo(f"report    {done.run.report}")
    click.echo(f"{done.seconds:.0f} s. Next: zoo finetune YOUR_PHOTOS --model simple_cnn")

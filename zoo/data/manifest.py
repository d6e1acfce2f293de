"""Reading a CSV file that lists images with their labels."""

import csv
from pathlib import Path

from zoo.data.images import SPLIT_NAMES, ImageData, build_image_data, class_name
from zoo.errors import DataError, did_you_mean

_MOST_SHOWN = 10


def read_manifest(manifest: Path, *, group_by: str | None = None) -> ImageData:
    """Read a CSV manifest with the header ``path,label[,split][,other columns]``.

    Paths are relative to the manifest. Splits are called train, val (valid, validation) and test, or are left out.

    Args:
        manifest: UTF-8, with or without a byte order mark.
        group_by: Column that says what must stay on one side of a split.

    Raises:
        DataError: The file cannot be read, a column is missing, or a line is wrong; the message has its number.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            _check_header(manifest, header, group_by)
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"cannot read {manifest}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{manifest} is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise DataError(f"{manifest} is not a usable CSV file: {error}.") from error
    if not rows:
        raise DataError(f"{manifest} lists no images; add one line path,label for each.")

    splits: dict[str, list[tuple[str, Path, str, str]]] = {}
    lines: dict[str, int] = {}
    missing: list[str] = []
    for line, row in rows:
        where = f"{manifest}, line {line}"
        values = _values(where, row, header)
        relative = values["path"]
        if relative in lines:
            raise DataError(f"{where}: {relative!r} is listed in line {lines[relative]} already.")
        lines[relative] = line
        path = manifest.parent / relative
        if "\0" in relative or not path.is_file():
            missing.append(f"line {line}: {relative}")
        split = _split(where, values.get("split", ""))
        group = values[group_by] if group_by is not None else ""
        if group_by is not None and not group:
            raise DataError(f"{where}: the column {group_by!r} is empty.")
        label = class_name(values["label"], where)
        splits.setdefault(split, []).append((Path(relative).as_posix(), path, label, group))
    if missing:
        more = f"\n  and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        listed = "".join(f"\n  {entry}" for entry in missing[:_MOST_SHOWN])
        raise DataError(
            f"{manifest} lists {len(missing)} file(s) that do not exist (paths are relative to the manifest):"
            f"{listed}{more}"
        )
    if "all" in splits and len(splits) > 1:
        raise DataError(f"{manifest}: the column 'split' is empty for {len(splits['all'])} line(s); fill all or none.")
    return build_image_data(manifest, layout="manifest", rows=splits)


def _check_header(manifest: Path, header: list[str], group_by: str | None) -> None:
    for name in ("path", "label"):
        if name not in header:
            raise DataError(
                f"{manifest}, line 1: no column {name!r}; the first line must name the columns, separated by commas "
                f"(path,label or path,label,split), and reads {','.join(header)!r}."
            )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{manifest}, line 1: the column {repeated[0]!r} is named twice.")
    if group_by is not None and group_by not in header:
        raise DataError(f"{manifest} has no column {group_by!r} to group by.{did_you_mean(group_by, header)}")


def _values(where: str, row: dict[str | None, str | list[str] | None], header: list[str]) -> dict[str, str]:
    if None in row or None in row.values():
        raise DataError(f"{where}: the number of values differs from the {len(header)} columns {','.join(header)}.")
    values = {str(name): str(value).strip() for name, value in row.items()}
    for name in ("path", "label"):
        if not values[name]:
            raise DataError(f"{where}: the {name} is empty.")
    return values


def _split(where: str, name: str) -> str:
    if not name:
        return "all"
    split = SPLIT_NAMES.get(name.lower())
    if split is None:
        raise DataError(f"{where}: unknown split {name!r}; the splits are train, val and test.")
    return split

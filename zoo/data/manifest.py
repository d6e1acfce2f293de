"""Reading a CSV file that lists images with their labels."""

import csv
from pathlib import Path

from zoo.data.images import SPLIT_NAMES, ImageData, Row, build_image_data, class_name
from zoo.errors import DataError, did_you_mean

_MOST_SHOWN = 10

LABEL_SEPARATOR = "|"
"""What stands between the labels of an image in the column ``labels``."""


def read_manifest(manifest: Path, *, group_by: str | None = None) -> ImageData:
    """Read a CSV manifest with the header ``path,label[,split][,other columns]``.

    With the column ``labels`` instead of ``label`` the data is multi-label: a cell holds any number of labels with
    ``|`` between them, and an empty one means that the image has none of them.

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

    multi_label = "labels" in header
    splits: dict[str, list[Row]] = {}
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
        names = _labels(where, values["labels"]) if multi_label else (class_name(values["label"], where),)
        splits.setdefault(split, []).append((Path(relative).as_posix(), path, names, group))
    if missing:
        more = f"\n  and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        listed = "".join(f"\n  {entry}" for entry in missing[:_MOST_SHOWN])
        raise DataError(
            f"{manifest} lists {len(missing)} file(s) that do not exist (paths are relative to the manifest):"
            f"{listed}{more}"
        )
    if "all" in splits and len(splits) > 1:
        raise DataError(f"{manifest}: the column 'split' is empty for {len(splits['all'])} line(s); fill all or none.")
    if not any(names for rows in splits.values() for _, _, names, _ in rows):
        raise DataError(f"{manifest}: the column 'labels' is empty in every line; there is nothing to learn.")
    return build_image_data(manifest, layout="manifest", rows=splits, multi_label=multi_label)


def _check_header(manifest: Path, header: list[str], group_by: str | None) -> None:
    if "label" in header and "labels" in header:
        raise DataError(
            f"{manifest}, line 1: there is a column 'label' (one class an image) and a column 'labels' (any number of "
            "labels an image); rename the one that is not meant."
        )
    for name in ("path", "labels" if "labels" in header else "label"):
        if name not in header:
            raise DataError(
                f"{manifest}, line 1: no column {name!r}; the first line must name the columns, separated by commas "
                f"(path,label or path,label,split, or path,labels for several labels an image), and reads "
                f"{','.join(header)!r}."
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
        if name in values and not values[name]:
            raise DataError(f"{where}: the {name} is empty.")
    return values


def _labels(where: str, text: str) -> tuple[str, ...]:
    if LABEL_SEPARATOR not in text and ";" in text:
        raise DataError(f"{where}: the labels {text!r} are not separated by {LABEL_SEPARATOR}; write it for the ;.")
    names = [name.strip() for name in text.split(LABEL_SEPARATOR)] if text else []
    if "" in names:
        raise DataError(f"{where}: a label in {text!r} is empty; write them as a{LABEL_SEPARATOR}b.")
    return tuple(class_name(name, where) for name in names)


def _split(where: str, name: str) -> str:
    if not name:
        return "all"
    split = SPLIT_NAMES.get(name.lower())
    if split is None:
        raise DataError(f"{where}: unknown split {name!r}; the splits are train, val and test.")
    return split

"""From a run, as plain data, to one HTML page."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from zoo.console import duration, printable, size
from zoo.report.charts import curves
from zoo.report.matrix import MOST_MATRIX_CLASSES, matrix
from zoo.report.summary import confused_pairs, headline, image_count

_MOST_PAIRS = 12
_MOST_SKIPPED = 200
_MAIN_SETTINGS = ("epochs", "train", "lr", "optimizer", "schedule", "batch_size", "augment")


def render(run: Mapping[str, Any]) -> str:
    """Draw the report of a run as one self-contained HTML page: no scripts, no requests.

    Every part is optional; what is absent, None or empty is left out of the page. Names may hold anything: markup and
    control characters are escaped. Equal runs give equal pages.

    Args:
        run: Plain data with any of

            - ``name``, ``architecture``, ``classes`` (list of names), ``task`` (``"single-label"`` or
              ``"multi-label"``);
            - ``weights``: ``kind``, ``spec``, ``licence``;
            - ``recipe``: ``name``, ``phases`` (list of the fields of ``zoo.recipes.Phase``);
            - ``counts``: split to class to number of images; ``images``: split to number of images;
            - ``findings``: list of ``level``, ``text``; ``skipped``: list of ``path``, ``reason``;
            - ``history``: one row an epoch, in order: ``phase``, ``epoch``, ``step``, ``lr``, ``train_loss``,
              ``train_accuracy``, ``val_loss``, ``val_accuracy``, ``seconds``;
            - ``best``: ``phase`` and ``epoch`` of the history's row that was kept;
            - ``results``: split to ``loss``, ``accuracy``, ``top5``, ``precision``, ``recall``, ``f1``, ``per_class``
              (list of ``class``, ``precision``, ``recall``, ``f1``, ``support``), ``confusion`` (rows true), or what
              :func:`zoo.tasks.label_metrics.label_report` gives;
            - ``freeze``: list of ``phase``, ``train``, ``frozen_stages``, ``frozen_tensors``, ``before``, ``after``;
            - ``numerics``: setting to value, and ``reasons`` (setting to reason);
            - ``artifact``: ``file``, ``bytes``, ``sha256``, ``verified`` (``max_difference`` of the logits);
            - ``commands``: pairs of a title and a command; ``versions``, ``seconds``: name to value.

    Returns:
        The page as UTF-8 text.
    """
    run = _plain(run)
    results = run.get("results") or {}
    top = headline(results)
    main = results.get(top.split) if top else None
    classes = run.get("classes") or [row["class"] for row in (main or {}).get("per_class") or []]
    confusion = (main or {}).get("confusion") or []
    names = classes if len(classes) == len(confusion) else [str(index) for index in range(len(confusion))]
    history = run.get("history") or []
    best = _position(history, run.get("best"))
    phases = _phase_names(run)
    charts = [
        curves(history, metric, phases=phases, best=best, percent=metric != "loss")
        for metric in ("loss", "accuracy", "map")
    ]
    page = _environment().get_template("report.html.jinja")
    return page.render(
        run=run,
        results=results,
        headline=top,
        main=main,
        classes=classes,
        history=history,
        best=best,
        charts=[chart for chart in charts if chart],
        matrix=matrix(confusion, names) if 0 < len(confusion) <= MOST_MATRIX_CLASSES else None,
        pairs=confused_pairs(confusion, names, most=_MOST_PAIRS),
        per_class=_weakest_first((main or {}).get("per_class") or []),
        phases=phases,
        multi_label=run.get("task") == "multi-label",
        main_settings=_MAIN_SETTINGS,
        most_skipped=_MOST_SKIPPED,
        image_count=image_count,
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zoo.report"),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=_percent, number=_number, size=size, duration=duration, words=_words)
    return environment


def _plain(value: Any) -> Any:
    """The same data with printable text, and None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {printable(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else printable(value)


def _position(history: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> int | None:
    """Where in the history the epoch is that was kept."""
    if not best:
        return None
    wanted = (best.get("phase"), best.get("epoch"))
    return next((at for at, row in enumerate(history) if (row.get("phase"), row.get("epoch")) == wanted), None)


def _phase_names(run: Mapping[str, Any]) -> list[str]:
    phases = (run.get("recipe") or {}).get("phases") or []
    return [f"phase {order}: {phase.get('train') or 'all'}" for order, phase in enumerate(phases, 1)]


def _weakest_first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Classes with images by rising F1, then those without any."""
    return sorted(rows, key=lambda row: (not row.get("support"), row.get("f1") or 0.0))


def _percent(share: float | None) -> str:
    """``97.3 %``; what is not all or nothing is never rounded to it."""
    if share is None:
        return "–"
    if share in (0, 1):
        return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
    return f"{min(max(100 * share, 0.1), 99.9):.1f}\N{NO-BREAK SPACE}%"


def _number(value: Any) -> str:
    """A number at a length for reading: counts whole and grouped, the rest to four figures."""
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(value: Any) -> str:
    """A setting as words: names lose their underscores, lists become enumerations."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(key)} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_words(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _number(value) if isinstance(value, int | float) or value is None else str(value)

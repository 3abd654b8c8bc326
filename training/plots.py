"""Plots of the model card, drawn from the report."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np

from models.fields import LEAD_TIME, Axis, Field
from models.physical_model import PhysicalModel, Recipe
from training.card import own_figures

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Report = dict[str, Any]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def learning_plot(report: Report) -> bytes:
    """Validation error over epochs."""
    curve = report["training"]["curve"]
    figure, axes = plt.subplots(figsize=(5, 3))
    epochs = [entry["epoch"] for entry in curve]
    axes.semilogy(epochs, [entry["member"] for entry in curve], label="members (mean)")
    axes.semilogy(epochs, [entry["ensemble"] for entry in curve], label="ensemble mean")
    axes.set(xlabel="epoch", ylabel="validation error", title="Learning curve")
    axes.legend()
    return _png(figure)


def cost_plot(report: Report) -> bytes:
    """Cost–accuracy plane: classical methods and the surrogate, one thread, one run."""
    times = report["milliseconds"]
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    own = own_figures(report)
    for label, entry in times["classical"].items():
        place = (entry["median"], _quality(entry))
        axes.plot(*place, "oC1", markersize=5)
        axes.annotate(label, place, fontsize=7, xytext=(5, -3), textcoords="offset points")
    axes.plot(times["forward_1"]["median"], _quality(own), "*C3", markersize=13, label="surrogate, forward")
    axes.plot(own["median"], _quality(own), "PC3", label="surrogate, full answer with band and statements")
    axes.plot([], [], "oC1", label="classical")
    axes.set_xscale("log")
    if own["skill"]:
        axes.set(ylabel=next(iter(own["skill"])))
    else:
        axes.set(yscale="log", ylabel="mean relative L2 error, %")
    axes.set(xlabel="milliseconds, one thread", title="Cost and accuracy")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=7)
    return _png(figure)


def _quality(entry: Mapping[str, Any]) -> float:
    skill = entry.get("skill")
    return float(next(iter(skill.values()))) if skill else 100 * float(entry["relative_l2"])


def validity_plot(report: Report) -> bytes:
    """Share of inputs called out of domain, and of bands that hold, per family."""
    families = list(report["held_out"])
    figure, axes = plt.subplots(figsize=(6, 0.6 + 0.45 * len(families)))
    place = np.arange(len(families))
    rejected = [report["held_out"][f]["called_out_of_domain"] for f in families]
    covers = [report["held_out"][f]["band_covers"] for f in families]
    axes.barh(place + 0.2, rejected, 0.38, label="called out of domain (p < 0.01)")
    axes.barh(place - 0.2, covers, 0.38, label="90 % band covers (before it is withdrawn)")
    axes.set_yticks(place, families)
    axes.set(xlim=(0, 1), title="Fresh cases of every family")
    axes.legend(fontsize=7)
    return _png(figure)


def calibration_plot(report: Report) -> bytes:
    """Where truths fall in the predicted law (flat is calibrated), and coverage by lead time."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
    for name, c in report["coverage"].items():
        shares = c["probability_histogram"]
        panels[0].stairs(shares, np.linspace(0, 1, len(shares) + 1), label=name)
        panels[1].plot(np.arange(1, len(c["coverage"]) + 1), c["coverage"], "o-", label=name)
    panels[0].axhline(1 / len(shares), color="grey", linewidth=0.7)
    panels[0].set(xlabel="predicted probability of the truth", ylabel="share", ylim=(0, None), title="Rank histogram")
    low, high = c["beta_interval_90"]
    panels[1].axhspan(low, high, color="grey", alpha=0.2)
    panels[1].set(xlabel="number of the lead time", ylabel="covered", ylim=(0.7, 1), title="Coverage of the 90 % band")
    panels[0].legend(fontsize=7)
    return _png(figure)


def examples_plot(model: PhysicalModel, recipe: Recipe, examples: list[dict[str, Any]]) -> bytes:
    """Best, median and worst held-out case of the first output: input, answer, truth, error, band."""
    source, target = model.inputs(recipe.points)[0], model.outputs(recipe.points)[0]
    if model.lead_times is not None and model.lead_times.input is not None:
        lead = model.lead_times
        axis = Axis(LEAD_TIME, lead.units, lead.frames, lead.start, lead.stop)
        target = Field(target.name, target.symbol, target.units, target.description, (axis, *target.axes))
    if len(target.axes) == 3:
        target = Field(target.name, target.symbol, target.units, target.description, target.axes[1:])
        examples = [_at_last_lead_time(case, target.name) for case in examples]
    flat = len(target.axes) == 2 and not any(a.labels for a in target.axes)
    figure, grid = plt.subplots(
        len(examples), 5 if flat else 2, figsize=(17 if flat else 11, 3.3 * len(examples)), layout="constrained"
    )
    for row, case in zip(np.atleast_2d(grid), examples, strict=True):
        (_draw_maps if flat else _draw_lines)(row, source, target, case)
        row[0].set_ylabel(f"{case['label']} ({100 * case['error']:.3g} %)\n{row[0].get_ylabel()}")
    figure.suptitle(f"{model.title}: best, median and worst held-out case of {target.name}")
    return _png(figure)


def _at_last_lead_time(case: dict[str, Any], name: str) -> dict[str, Any]:
    """A case whose fields (lead_time, y, x) are cut to their last map."""
    kept = {part: {**case[part], name: case[part][name][-1]} for part in ("outputs", "truth", "lower", "upper")}
    return case | kept


def _draw_maps(row: Any, source: Field, target: Field, case: dict[str, Any]) -> None:
    name = target.name
    answer, truth = np.asarray(case["outputs"][name]), np.asarray(case["truth"][name])
    _draw_input(row[0], source, np.asarray(case["inputs"][source.name]))
    top, low = max(answer.max(), truth.max()), min(answer.min(), truth.min())
    half = (np.asarray(case["upper"][name]) - np.asarray(case["lower"][name])) / 2
    error = np.abs(answer - truth)
    _image(row[1], target, answer, f"answer {_unit(target)}", "magma", (low, top))
    _image(row[2], target, truth, "truth", "magma", (low, top))
    _image(row[3], target, error, "|error|", "cividis", (0, float(max(error.max(), 1e-30))))
    _image(row[4], target, half, "half-width of the 90 % band", "cividis", (0, float(half.max())))


def _unit(item: Field) -> str:
    return "" if item.units == "1" else f"[{item.units}]"


def _draw_input(panel: Axes, item: Field, values: np.ndarray) -> None:
    if values.ndim == 2:
        _image(panel, item, values, f"{item.name} {_unit(item)}", "viridis", (values.min(), values.max()))
        return
    panel.plot(item.axes[0].coordinates, values)
    panel.set(title=f"{item.name} {_unit(item)}", xlabel=item.axes[0].name)


def _image(panel: Axes, item: Field, values: np.ndarray, title: str, colours: str, limits: tuple[float, float]) -> None:
    """(x, y) fields are turned so that x runs to the right; (y, x) and (lead_time, x) ones already lie so."""
    across, up = item.axes[1], item.axes[0]
    if item.axes[0].name == "x":
        values, across, up = values.T, item.axes[0], item.axes[1]
    extent = (across.start, across.stop, up.start, up.stop)
    image = panel.imshow(
        values, origin="lower", extent=extent, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto"
    )
    panel.set(title=title, xlabel=across.name, ylabel=up.name)
    panel.figure.colorbar(image, ax=panel, format="%.2g")


def _draw_lines(row: Any, source: Field, target: Field, case: dict[str, Any]) -> None:
    """A forecast at stations: history and fan of the first station, and of the last."""
    name = target.name
    stations = target.axes[-1]
    for panel, index in zip(row, (0, stations.points - 1), strict=True):
        times = target.axes[0].coordinates
        if name in case["inputs"]:
            past = np.asarray(case["inputs"][name])
            panel.plot(source.axes[0].coordinates, past[:, index], "k", linewidth=1)
        lower, upper = (np.asarray(case[key][name])[:, index] for key in ("lower", "upper"))
        panel.fill_between(times, lower, upper, alpha=0.3, label="90 % band")
        panel.plot(times, np.asarray(case["outputs"][name])[:, index], label="mean")
        panel.plot(times, np.asarray(case["truth"][name])[:, index], "k.", markersize=4, label="observed")
        panel.set(title=stations.labels[index], xlabel=target.axes[0].units, ylabel=f"{name} {_unit(target)}")
    row[-1].legend(fontsize=7)


def plots(model: PhysicalModel, recipe: Recipe, report: Report) -> dict[str, bytes]:
    """All plots of the card by file name."""
    found = {
        "examples.png": examples_plot(model, recipe, report["examples"]),
        "learning.png": learning_plot(report),
        "calibration.png": calibration_plot(report),
    }
    if "classical" in report["milliseconds"]:
        found["cost.png"] = cost_plot(report)
    if report["held_out"]:
        found["validity.png"] = validity_plot(report)
    return found

"""The model card: Markdown and plots, drawn from the report alone (the example field is predicted by the bundle)."""

import io
from typing import Any

import matplotlib
import numpy as np

from models.physical_model import PhysicalModel

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def learning_plot(report: dict[str, Any]) -> bytes:
    """Validation error over epochs."""
    curve = report["training"]["curve"]
    figure, axes = plt.subplots(figsize=(5, 3))
    epochs = [entry["epoch"] for entry in curve]
    axes.plot(epochs, [100 * entry["member"] for entry in curve], label="members (mean)")
    axes.plot(epochs, [100 * entry["ensemble"] for entry in curve], label="ensemble mean")
    axes.set(xlabel="epoch", ylabel="validation relative L2 error, %", title="Learning curve")
    axes.legend()
    return _png(figure)


def cost_plot(report: dict[str, Any]) -> bytes:
    """Cost–accuracy plane: classical methods and the surrogate, one thread, one run."""
    times = report["milliseconds"]
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    for label, entry in times["classical"].items():
        style = "sC0" if label.startswith("fine") else "oC1"
        axes.loglog(entry["median"], 100 * entry["relative_l2"], style, markersize=5)
        place = (entry["median"], 100 * entry["relative_l2"])
        axes.annotate(label.split(", ")[1], place, fontsize=7, xytext=(5, -3), textcoords="offset points")
    error = 100 * report["accuracy"]["relative_l2"]
    axes.loglog(times["forward_1"]["median"], error, "*C3", markersize=13, label="surrogate, forward")
    axes.loglog(times["full_answer"]["median"], error, "PC3", label="surrogate, full answer with band and bound")
    axes.plot([], [], "oC1", label="classical on the served medium")
    axes.plot([], [], "sC0", label="classical, given the fine medium")
    axes.set(xlabel="milliseconds, one thread", ylabel="mean relative L2 error, %", title="Cost and accuracy")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    axes.tick_params(which="minor", labelsize=6)
    axes.legend(fontsize=7)
    return _png(figure)


def validity_plot(report: dict[str, Any]) -> bytes:
    """Share of inputs called out of domain, per family."""
    shares = report["validity_rejection"]
    figure, axes = plt.subplots(figsize=(5, 2.6))
    axes.barh(list(shares), list(shares.values()))
    axes.set(xlim=(0, 1), xlabel="share called out of domain (p < 0.01)", title="Validity")
    return _png(figure)


def example_plot(model: PhysicalModel, example: dict[str, Any]) -> bytes:
    """Input, answer, error and band half-width of one held-out case."""
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.4), layout="constrained")
    unit = ("permeability", "pressure", "|error|", "90 % band, half-width")
    maps = ("viridis", "magma", "cividis", "cividis")
    fields = (example["input"], example["output"], example["error"], example["half_width"])
    top = float(np.max(example["half_width"]))
    for panel, values, title, colours, shared in zip(axes, fields, unit, maps, (0, 0, 1, 1), strict=True):
        limits = {"vmin": 0.0, "vmax": top} if shared else {}
        image = panel.imshow(np.asarray(values).T, origin="lower", extent=(0, 1, 0, 1), cmap=colours, **limits)
        panel.set(title=title, xlabel="x", ylabel="y")
        figure.colorbar(image, ax=panel, format="%.2g")
    figure.suptitle(f"{model.title}: a held-out case, error and band on one scale")
    return _png(figure)


def plots(model: PhysicalModel, report: dict[str, Any]) -> dict[str, bytes]:
    """All plots of the card by file name."""
    return {
        "example.png": example_plot(model, report["example"]),
        "learning.png": learning_plot(report),
        "cost.png": cost_plot(report),
        "validity.png": validity_plot(report),
    }


def percent(value: float, digits: int = 2) -> str:
    """A share as text."""
    return f"{100 * value:.{digits}f} %"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _accuracy(report: dict[str, Any]) -> str:
    accuracy = report["accuracy"]
    rows = [["this surrogate, ensemble mean", f"{accuracy['relative_l2']:.5f}"]]
    rows += [[f"member {i + 1}", f"{e:.5f}"] for i, e in enumerate(accuracy["members"])]
    rows += [
        [
            f"ablation: recipe “{name}”, {a['members']} member, {a['minutes']:.0f} min, {a['epochs']} epochs",
            f"{a['relative_l2']:.5f}",
        ]
        for name, a in report["ablations"].items()
    ]
    rows += [[f"published: {name}", f"{error:.4f}"] for name, error in accuracy["published"].items()]
    rows += [
        [f"classical: {name}", f"{entry['relative_l2']:.5f}"]
        for name, entry in report["milliseconds"]["classical"].items()
    ]
    return table(["method", "mean relative L2"], rows)


def _efficiency(report: dict[str, Any]) -> str:
    header = ["family", "cases", "violations", "index median", "index max", "upper/lower median", "true energy error"]
    rows = [
        [
            family, str(e["cases"]), str(e["violations"]), f"{e['index_median']:.3f}", f"{e['index_max']:.3f}",
            f"{e['upper_over_lower_median']:.2f}", percent(e["relative_energy_error_median"]),
        ]
        for family, e in report["efficiency"].items()
    ]  # fmt: skip
    return table(header, rows)


def _times(report: dict[str, Any]) -> str:
    times = {k: v for k, v in report["milliseconds"].items() if k != "classical"}
    times |= {f"classical: {k}": v for k, v in report["milliseconds"]["classical"].items()}
    rows = [[k, f"{v['median']:.2f}", f"{v['quartile_1']:.2f}–{v['quartile_3']:.2f}"] for k, v in times.items()]
    return table(["what (one thread)", "median, ms", "quartiles"], rows)


def comparison(report: dict[str, Any]) -> str:
    """What may honestly be claimed against classical methods, in one paragraph."""
    own, times = report["accuracy"]["relative_l2"], report["milliseconds"]
    spent = times["forward_1"]["median"]
    classical = times["classical"]
    best = min((k for k in classical if k.startswith("served")), key=lambda k: classical[k]["relative_l2"])
    known, cost = classical[best]["relative_l2"], classical[best]["median"]
    lines = [
        f"The best classical method that knows only what the surrogate knows is “{best}”: {known:.4f} in {cost:.1f} ms, "
        f"against {own:.4f} in {spent:.1f} ms for all members: {_share(own, known)} error at {spent / cost:.1f} times the cost."
    ]
    equal = {k: v for k, v in classical.items() if v["relative_l2"] <= own and k.startswith("fine")}
    if equal:
        cheapest = min(equal, key=lambda k: equal[k]["median"])
        lines.append(
            f"At equal or better accuracy “{cheapest}” takes {equal[cheapest]['median']:.1f} ms, but has to be given the "
            "medium at full resolution."
        )
    lines.append(
        "No speed is claimed: the surrogate is there for its bands, its bound, its exact derivatives and its batches."
    )
    return " ".join(lines)


def _share(own: float, other: float) -> str:
    return f"{percent(1 - own / other, 0)} less" if own < other else f"{percent(own / other - 1, 0)} more"


def text(document: dict[str, Any]) -> str:
    """CARD.md."""
    report = document["report"]
    accuracy, cover, explain = report["accuracy"], report["coverage"], report["explanations"]
    machine, training = report["machine"], report["training"]
    steps = document["provenance"]["recipe"]["settings"].get("steps")
    low, high = cover["beta_interval_90"]
    return f"""# {document["title"]} ({document["name"]}, version {document["version"]})

{document["description"]}

![A held-out case](example.png)

**Truth**: {document["truth"]}. **Licence**: {document["licence"]}

## Accuracy

Mean over {accuracy["samples"]} test samples (seed {document["provenance"]["seeds"]["test"]}) of ‖p−u‖/‖u‖, {document["provenance"]["recipe"]["splits"]["train"]["count"]} training samples;
same law as the published data, drawn at the nodes, not the same files.

{_accuracy(report)}

Relative H1 error {percent(accuracy["relative_h1"])}; median {percent(accuracy["quantiles"]["50%"])}, 90 % quantile
{percent(accuracy["quantiles"]["90%"])}, worst {percent(accuracy["worst"])}.

**What kind of network this is.** The graph first takes {steps} conjugate-gradient steps on the served medium and a Fourier
neural operator corrects the rest, so its accuracy is not comparable with a pure network's: most of it is classical.
{comparison(report)}

![Cost and accuracy](cost.png)

Training: {training["epochs"]} epochs, {training["seconds"] / 60:.0f} minutes for all {len(accuracy["members"])} members on {machine["cores"]} cores ({machine["processor"]}).

![Learning curve](learning.png)

## Bands

{cover["calibration_cases"]} calibration cases; on {cover["cases"]} held-out cases the {percent(cover["level"], 0)} simultaneous band covered
{percent(cover["coverage"], 1)} (Beta interval of the realised coverage {percent(low, 1)} to {percent(high, 1)}; covered count {cover["covered"]},
99 % range {cover["beta_binomial_99"][0]}–{cover["beta_binomial_99"][1]}). Mean half-width {cover["mean_half_width"]:.2e}, {percent(cover["width_ratio"], 0)} of the band of constant
width. Coverage in the fifth of inputs with the widest bands {percent(cover["worst_fifth_coverage"], 1)}; pointwise band
{percent(cover["pointwise_coverage"], 1)} at half-width {cover["pointwise_half_width"]:.2e}. Spread of members alone over error: {cover["member_spread_over_error"]:.2f} (1 would
be calibrated; the members' own scales make up the rest).

## Guaranteed bound

{_efficiency(report)}

Index = bound / error against Q1 solutions on 8 times the served grid, extrapolated. Violations are counted against the
finest solution without tolerance.

## Validity

![Validity](validity.png)

Two-phase media of another correlation length are hard to tell from one sample: rely on the bound there.

## Explanations and derivatives

Integrated gradients with 8 nodes: completeness gap median {explain["completeness_gap_median"]:.1e}, largest {explain["completeness_gap_max"]:.1e} over {explain["cases"]} cases
({explain["cases_above_1e-4"]} above 1e-4, where J(x) − J(baseline) nearly cancels and float32 rounding shows); over the sum of |attributions|
at most {explain["completeness_gap_over_turnover_max"]:.1e}.
Cosine with the solver's own adjoint: median {explain["solver_adjoint_cosine_median"]:.3f}, least {explain["solver_adjoint_cosine_min"]:.3f}.
{_derivatives(report)}

## Times

{machine["processor"]}, {machine["cores"]} cores.

{_times(report)}

## Limits

Fixed grid of {document["inputs"][0]["axes"][0]["points"]}² nodes; source 1; zero boundary values. The band is for the stated truth and for inputs of the training law
only; the bound is for the continuum problem with the medium constant on each node's control volume.
Regenerate: `python -m training build {document["name"]}`.
"""


def _derivatives(report: dict[str, Any]) -> str:
    names = {
        "forward_parity": "forward graph against torch", "vjp_parity": "VJP against torch", "jvp_parity": "JVP against torch",
        "adjoint_identity": "adjoint identity", "finite_difference": "JVP against central differences in float64",
    }  # fmt: skip
    return "\n" + table(["check", "relative"], [[v, f"{report['derivatives'][k]:.1e}"] for k, v in names.items()])

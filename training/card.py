"""The model card: Markdown, written from the report alone. Every section appears where the report has its figures."""

from typing import Any

from models.assessment import AUROC, SPREAD, WIDTH, WORST_FIFTH
from models.explanation.registration import FEW_LEARNED, LEAST_Z
from models.fields import LEAD_TIME
from models.statements import EVERYWHERE, Statement

Report = dict[str, Any]


def percent(value: float, digits: int = 2) -> str:
    """A share as text."""
    return f"{100 * value:.{digits}f} %"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None) -> str:
    """A figure with three digits, or a dash."""
    return "–" if value is None else f"{value:.3g}"


def first_output(report: Report) -> dict[str, Any]:
    """The accuracy figures of the first output field."""
    figures: dict[str, Any] = next(iter(report["accuracy"]["outputs"].values()))
    return figures


def _accuracy(document: dict[str, Any]) -> str:
    report = document["report"]
    rows = []
    for name, a in report["accuracy"]["outputs"].items():
        rows.append([
            name, percent(a["relative_l2"]), f"{percent(min(a['members']))}–{percent(max(a['members']))}",
            percent(a["quantiles"]["50%"]), percent(a["quantiles"]["90%"]), percent(a["quantiles"]["99%"]),
            percent(a["worst"]),
        ])  # fmt: skip
    header = ["output", "relative L2, ensemble mean", "single members (seeds)", "median", "90 %", "99 %", "worst"]
    text = table(header, rows)
    scores = report["accuracy"].get("scores")
    if scores is not None:
        members = report["accuracy"]["member_scores"]
        rows = [
            [name, number(value), f"{number(min(m[name] for m in members))}–{number(max(m[name] for m in members))}"]
            for name, value in scores.items()
        ]
        text += "\n\n" + table(["score", "ensemble mean", "single members (seeds)"], rows)
    if "relative_h1" in report["accuracy"]:
        text += f"\n\nRelative H1 error {percent(report['accuracy']['relative_h1'])}."
    published = report["accuracy"]["published"]
    if published:
        text += "\n\n" + table(["published", "relative L2"], [[k, f"{v:.4f}"] for k, v in published.items()])
    return text


def _ablations(report: Report) -> str:
    rows = [
        [name, f"{a['relative_l2']:.5f}", str(a["members"]), str(a["epochs"]), f"{a['minutes']:.0f}"]
        for name, a in report["ablations"].items()
    ]
    return table(["ablation (recipe)", "relative L2", "members", "epochs", "minutes"], rows) if rows else ""


def _comparison(report: Report) -> str:
    """Scores of statistical baselines beside the model's, per variable and lead time."""
    rows = []
    for name, scores in report["comparison"].items():
        best = min(value for label, value in scores.items() if label != "surrogate")
        gain = 1 - scores["surrogate"] / best
        rows.append([name, *(number(v) for v in scores.values()), percent(gain, 1)])
    labels = list(next(iter(report["comparison"].values())))
    return table(["score", *labels, "gain over the best baseline"], rows)


def _held_out(report: Report) -> str:
    keys = sorted({key for entry in report["held_out"].values() for key in entry.get("scores", {})}, key=_shown_first)[
        :4
    ]
    rows = [
        [
            family, str(e["cases"]), percent(e["relative_l2"]), percent(e["worst"]),
            *(number(e.get("scores", {}).get(key)) for key in keys), percent(e["band_covers"], 0),
            percent(e["called_out_of_domain"], 0),
        ]
        for family, e in report["held_out"].items()
    ]  # fmt: skip
    header = ["family", "cases", "relative L2", "worst", *keys, "90 % band covers", "called out of domain"]
    return table(header, rows)


def _shown_first(key: str) -> tuple[bool, str]:
    return (not key.startswith(("CSI", "NSE")), key)


def _readings(document: dict[str, Any]) -> str:
    """Every kind of statement an answer carries, in a sentence each."""
    lines = []
    for offered in document["statements"]:
        norm, kind = offered["norm"], offered["kind"]
        level = 0.9 if kind == "statistical" else None
        reason = ("the cause is given with the answer",) if kind == "none" else ()
        scope = _scope(document) if norm == "band" else None
        name = "the answer" if scope in (None, EVERYWHERE) else "answer"
        said = Statement(name, norm, None, kind, level, document["truth"], reason, scope=scope)
        lines.append(f"- **{kind}**, {norm.replace('_', ' ')}: {said.reading}")
    return "\n".join(lines) + "\n\nEvery statement of an answer carries such a sentence with its own numbers."


def _scope(document: dict[str, Any]) -> str:
    """Where a band holds at once."""
    lead = document.get("lead_times")
    if lead is not None and lead["input"] is not None:
        return "all grid points of the whole trajectory at once"
    leads = any(axis["name"] == LEAD_TIME for item in document["outputs"] for axis in item["axes"])
    return "all grid points of each lead time by itself" if leads else EVERYWHERE


def _bands(report: Report) -> str:
    lines = []
    for name, c in report["coverage"].items():
        low, high = c["beta_interval_90"]
        shown = ", ".join(percent(v, 1) for v in c["coverage"])
        lines.append(
            f"**{name}**: {c['calibration_cases']} calibration cases; on {c['cases']} held-out cases the "
            f"{percent(c['level'], 0)} simultaneous band covered {shown} (5–95 % of what {c['independent']} "
            f"exchangeable cases{_weeks(c)} give: {percent(low, 1)}–{percent(high, 1)}). Covered in the fifth of inputs "
            f"with the widest bands: {_shares(c['worst_fifth_coverage'])}; with the narrowest: "
            f"{_shares(c['quiet_fifth_coverage'])}. Mean half-width {number(c['mean_half_width'])}; over that of a band of "
            f"constant width that covers as much: {_range(c['width_ratio']['mean'])} on average, "
            f"{_range(c['width_ratio']['median'])} in the median case. Pointwise band: "
            f"{percent(c['pointwise_coverage'], 1)}. Spread over error: {_numbers(c['spread_over_error']['pooled'])} "
            f"(90 % intervals {_pairs(c['spread_over_error']['interval'])}), every case weighing the same "
            f"{_numbers(c['spread_over_error']['per_case'])}." + _blocks(c)
        )  # fmt: skip
    return "\n\n".join(lines)


def _shares(values: list[float]) -> str:
    return ", ".join(percent(value, 1) for value in values)


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _pairs(values: list[list[float]]) -> str:
    return ", ".join(f"{low:.2f}–{high:.2f}" for low, high in values)


def _range(values: list[float]) -> str:
    """Shares as text: all the same to a per cent, or their range."""
    low, high = percent(min(values), 0), percent(max(values), 0)
    return low if low == high else f"{low} to {high}"


def _weeks(c: dict[str, Any]) -> str:
    return "" if c["independent"] == c["calibration_cases"] else ", one for each block that depends on itself alone,"


def _blocks(c: dict[str, Any]) -> str:
    if "block_interval_90" not in c:
        return ""
    pairs = ", ".join(f"{percent(low, 0)}–{percent(high, 0)}" for low, high in c["block_interval_90"])
    return f" 90 % intervals of the coverage when whole weeks are resampled: {pairs}."


def _intervals(report: Report) -> str:
    rows = [
        [name, label, f"{q['covered']} of {q['cases']}", "{}–{}".format(*q["beta_binomial_99"])]
        for name, quantities in report["intervals"].items()
        for label, q in quantities.items()
    ]
    return table(["field", "90 % interval of", "covered", "99 % range"], rows)


def _validity(report: Report) -> str:
    v = report["validity"]
    expected = "99 % range {}–{}".format(*v["binomial_99"])
    if "block_interval_90" in v:
        low, high = (percent(end, 1) for end in v["block_interval_90"])
        expected = f"{low}–{high} when whole weeks are resampled"
    rows = [[label, f"{s['auroc']:.3f}", percent(s["power"], 0)] for label, s in v["shifts"].items()]
    text = (
        f"Of {v['cases']} held-out inputs {v['rejected']} are called out of domain at {v['threshold']:g} ({expected})."
    )
    if rows:
        text += f" On shifts fixed beforehand, {v['shifted_cases']} inputs of each:\n\n"
        text += table(["shift", "AUROC", "called out of domain"], rows)
    return text


def _reliability(report: Report) -> str:
    rows = [
        [name, number(r["threshold"]), *(_pair(r, b) for b in (0, 2, 4, 6, 8, 9)), number(r["brier"])]
        for name, c in report["coverage"].items()
        for r in c["reliability"]
    ]
    header = ["field", "threshold", "0–10 %", "20–30 %", "40–50 %", "60–70 %", "80–90 %", "90–100 %", "Brier"]
    return table(header, rows) if rows else ""


def _pair(r: dict[str, Any], b: int) -> str:
    return f"{percent(r['predicted'][b], 0)} → {percent(r['observed'][b], 0)}" if r["counts"][b] else "–"


def _efficiency(report: Report) -> str:
    header = ["family", "cases", "violations", "index median", "index max", "upper/lower median", "true relative error"]
    rows = [
        [
            family, str(e["cases"]), str(e["violations"]), f"{e['index_median']:.3f}", f"{e['index_max']:.3f}",
            number(e["upper_over_lower_median"]), percent(e["relative_error_median"]),
        ]
        for family, e in report["efficiency"].items()
    ]  # fmt: skip
    return table(header, rows)


def _times(report: Report) -> str:
    times = {k: v for k, v in report["milliseconds"].items() if k != "classical"}
    times |= {f"classical: {k}": v for k, v in report["milliseconds"].get("classical", {}).items()}
    rows = [
        [
            label, f"{v['median']:.2f}", f"{v['quartile_1']:.2f}–{v['quartile_3']:.2f}",
            percent(v["relative_l2"]) if "relative_l2" in v else "",
            ", ".join(f"{k} {number(s)}" for k, s in v.get("skill", {}).items()),
        ]
        for label, v in times.items()
    ]  # fmt: skip
    return table(["what (one thread)", "median, ms", "quartiles", "relative L2", "skill"], rows)


def is_as_good(own: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a classical method is at least as accurate, by the first skill where there is one, else by relative L2."""
    if own.get("skill"):
        key = next(iter(own["skill"]))
        return bool(other["skill"][key] >= own["skill"][key])
    return bool(other["relative_l2"] <= own["relative_l2"])


def own_figures(report: Report) -> dict[str, Any]:
    """The surrogate's figures as the classical methods' are given: relative L2 on the same target, skill, time."""
    a = report["accuracy"]
    return {
        "relative_l2": first_output(report)["target_relative_l2"], "skill": a.get("skill"),
        "median": report["milliseconds"]["full_answer"]["median"],
    }  # fmt: skip


def cost_comparison(report: Report) -> str:
    """What may honestly be claimed against classical methods, in one paragraph."""
    classical = report["milliseconds"]["classical"]
    own = own_figures(report)
    equal = {label: entry for label, entry in classical.items() if is_as_good(own, entry)}
    shown = f"{own['median']:.1f} ms for a full answer (all members, band and statements)"
    if not equal:
        return f"No classical method tried is as accurate; the surrogate takes {shown}."
    label = min(equal, key=lambda k: equal[k]["median"])
    ratio = equal[label]["median"] / own["median"]
    text = (
        f"The cheapest classical method that is as accurate is “{label}”: {equal[label]['median']:.2f} ms "
        f"({_quality(equal[label])}), against {shown} ({_quality(own)}). "
    )
    if ratio <= 1:
        return text + f"It is {1 / ratio:.1f} times cheaper: no speed is claimed."
    spent = report["training"]["seconds"] + (report["training"]["sampling_seconds"] or 0.0)
    queries = 1e3 * spent / (equal[label]["median"] - own["median"])
    return text + (
        f"The surrogate is {ratio:.1f} times faster; sampling and training ({spent / 60:.0f} minutes) pay off after "
        f"{queries:,.0f} queries."
    )


def _quality(entry: dict[str, Any]) -> str:
    if entry.get("skill"):
        key, value = next(iter(entry["skill"].items()))
        return f"{key} {value:.3f}"
    return f"relative L2 {percent(entry['relative_l2'])}"


def _derivatives(report: Report) -> str:
    names = {
        "forward_parity": "forward graph against torch", "vjp_parity": "VJP against torch", "jvp_parity": "JVP against torch",
        "adjoint_identity": "adjoint identity", "finite_difference": "JVP against central differences in float64",
    }  # fmt: skip
    return table(["check", "relative"], [[v, f"{report['derivatives'][k]:.1e}"] for k, v in names.items()])


def _explanations(report: Report) -> str:
    e = report["explanations"]
    most = e.get("nodes_max", 8)
    nodes = f"8 to {most} nodes (median {e['nodes_median']:.0f})" if most > 8 else "8 nodes"
    text = (
        f"Integrated gradients with {nodes}: completeness gap median {e['completeness_gap_median']:.1e}, largest "
        f"{e['completeness_gap_max']:.1e} over {e['cases']} cases ({e['cases_above_1e-4']} above 1e-4); over the sum of "
        f"|attributions| at most {e['completeness_gap_over_turnover_max']:.1e}."
    )
    if e["solver_adjoint_cosine_median"] is not None:
        text += (
            f" Cosine with the solver's own adjoint: median {e['solver_adjoint_cosine_median']:.3f}, least "
            f"{e['solver_adjoint_cosine_min']:.3f}."
        )
    return "\n\n".join([text, *_registration(e), _derivatives(report)])


def _registration(e: dict[str, Any]) -> list[str]:
    """Tests of the explanations themselves, as far as they were made."""
    found = []
    if "deletion_z_median" in e:
        found.append(
            f"Regions in order of their share against {e['orders']} random orders{_cases(e)}: deletion z median "
            f"{e['deletion_z_median']:.1f} (least {e['deletion_z_min']:.1f}), insertion {e['insertion_z_median']:.1f} "
            f"({e['insertion_z_min']:.1f}); {LEAST_Z:g} and more is good. The gradient holds to a tenth for changes up to "
            f"{number(e['linearity_range_median'])} input standard deviations (median); {percent(e['spectral_noise_median'])} of "
            "its energy is beyond two thirds of the grid's wavenumbers."
        )
    if e.get("randomisation"):
        found.append(_randomisation(e))
    if "corrected" in e:
        c = e["corrected"]
        found.append(
            f"Means over {c['cases']} random boxes against a finer mesh, median relative error: raw {percent(c['raw_median'])}, "
            f"adjoint-corrected {percent(c['corrected_median'])} (guaranteed {percent(c['bound_median'])}), midpoint "
            f"{percent(c['midpoint_median'])} (guaranteed {percent(c['midpoint_bound_median'])}); {c['violations']} violations."
        )
    return found


def _cases(e: dict[str, Any]) -> str:
    return f" in {e['deletion_cases']} cases" if "deletion_cases" in e else ""


def _randomisation(e: dict[str, Any]) -> str:
    whole, learned = (
        ", ".join(f"{layers} layers {value:.2f}" for layers, value in (e.get(key) or {}).items())
        for key in ("randomisation", "randomisation_learned")
    )
    text = f"Rank correlation of the gradient with that of shuffled weights, from the output on: {whole}."
    if not learned:
        return text
    share = e["learned_share_median"]
    owner = " (a classical solver in the graph gives the gradient)" if share < FEW_LEARNED else ""
    return f"{text} The learned part alone, {percent(share)} as large as the whole{owner}: {learned}."


def _training(document: dict[str, Any]) -> str:
    report = document["report"]
    training, machine = report["training"], report["machine"]
    members = document["graph"]["members"]
    text = (
        f"Training: {training['epochs']} epochs, {training['seconds'] / 60:.0f} minutes for all {members} members on "
        f"{machine['cores']} cores ({machine['processor']})"
    )
    if training["sampling_seconds"]:
        text += f"; sampling the reference {training['sampling_seconds'] / 60:.0f} minutes"
    return text + "."


def shortfalls(report: Report) -> list[str]:
    """Every target that a figure misses, by name."""
    found = []
    for name, c in report["coverage"].items():
        spread, ratio = c["spread_over_error"], c["width_ratio"]
        worst, pooled = min(c["worst_fifth_coverage"]), max(spread["pooled"], key=lambda v: abs(v - 1))
        if not c["inside"]:
            found.append(f"{name}: coverage {_shares(c['coverage'])} lies outside what exchangeable cases give")
        if worst < WORST_FIFTH:
            found.append(
                f"{name}: {percent(worst, 1)} covered in the fifth with the widest bands, {percent(WORST_FIFTH, 0)} wanted"
            )
        if max(ratio["mean"]) > WIDTH:
            found.append(
                f"{name}: band {_range(ratio['mean'])} as wide as one of constant width, at most {percent(WIDTH, 0)} wanted"
            )
        if not SPREAD[0] <= pooled <= SPREAD[1]:
            found.append(f"{name}: spread over error {pooled:.2f}, {SPREAD[0]:g}–{SPREAD[1]:g} wanted")
    v = report.get("validity")
    if v and not v["inside"]:
        found.append(
            f"the validity test at {v['threshold']:g} calls {percent(v['rejected'] / v['cases'], 1)} of held-out inputs out of "
            "domain"
        )
    e = report.get("explanations", {})
    low = [f"{n} z {e[key]:.1f}" for n in ("deletion", "insertion") if e.get(key := f"{n}_z_median", LEAST_Z) < LEAST_Z]
    if low:
        found.append(f"explanations: {', '.join(low)} against random orders, {LEAST_Z:g} wanted")
    if e.get("cases_above_1e-4"):
        found.append(
            f"explanations: attributions miss more than 1e-4 of the difference in {e['cases_above_1e-4']} of {e['cases']} cases"
        )
    shifts = (v or {}).get("shifts", {})
    unseen = [f"{label} {s['auroc']:.2f}" for label, s in shifts.items() if s["auroc"] < AUROC]
    if unseen:
        found.append(f"shifts the validity test does not see (AUROC below {AUROC:g}): {', '.join(unseen)}")
    return found


def sections(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Headings and texts of the card, those without figures left out."""
    report = document["report"]
    seeds, splits = document["provenance"]["seeds"], document["provenance"]["recipe"]["splits"]
    drawn = (
        f"{report['accuracy']['samples']} test samples (seed {seeds['test']}), {splits['train']['count']} for training; "
        "every held-out figure is from seeds or periods of its own."
    )
    found = [
        ("Accuracy", f"{drawn}\n\n{_accuracy(document)}\n\n{_ablations(report)}\n\n{_training(document)}\n\n"
                     "![Learning curve](learning.png)"),
    ]  # fmt: skip
    if "comparison" in report:
        found.append(("Against statistical baselines", _comparison(report)))
    if "classical" in report["milliseconds"]:
        found.append(("Against classical methods", f"{cost_comparison(report)}\n\n![Cost and accuracy](cost.png)"))
    if report["held_out"]:
        found.append(("Held-out families, good or bad", f"{_held_out(report)}\n\n![Validity](validity.png)"))
    found.append(("What its statements say", _readings(document)))
    found.append(("Bands", f"{_bands(report)}\n\n![Calibration](calibration.png)"))
    if report.get("intervals"):
        found.append(("Intervals of quantities of interest", _intervals(report)))
    if report.get("validity"):
        found.append(("Test of validity", _validity(report)))
    short = shortfalls(report)
    if short:
        found.append(("Where it falls short", "\n".join(f"- {line}" for line in short)))
    if _reliability(report):
        found.append(("Exceedance probabilities", f"Predicted → observed.\n\n{_reliability(report)}"))
    if "efficiency" in report:
        note = "Index = bound / error against a much finer reference; violations are counted without tolerance."
        found.append(("Guaranteed bound", f"{_efficiency(report)}\n\n{note}"))
    found.append(("Explanations and derivatives", _explanations(report)))
    machine = report["machine"]
    found.append(("Times", f"{machine['processor']}, {machine['cores']} cores.\n\n{_times(report)}"))
    return found


def text(document: dict[str, Any]) -> str:
    """CARD.md."""
    body = "\n\n".join(f"## {heading}\n\n{content}" for heading, content in sections(document))
    return f"""# {document["title"]} ({document["name"]}, version {document["version"]})

{document["description"]}

![Best, median and worst held-out case](examples.png)

**Truth**: {document["truth"]}. **Licence**: {document["licence"]}

{document["notes"]}

{body}

Regenerate: `{document["provenance"]["command"]}`.
"""

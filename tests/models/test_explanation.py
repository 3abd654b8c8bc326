"""Explanations against what can be worked out by hand, and the shipped ones against their own checks."""

import io
import itertools
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from api.encodings import explanation_sheet, panels
from models.catalog.darcy import sampler
from models.errors import MissingField, NotOffered, OutOfRange, TooLarge, UnknownOption, WrongShape
from models.explanation import Request, attribution, checks, document, explain, grid, plan
from models.explanation.baselines import make_baseline
from models.explanation.forms import Exceedance, SmoothExceedance, SoftMaximum
from models.explanation.functional import Functional
from models.explanation.quantities import BLUNTEST, SHARPEST, make_quantity
from models.explanation.registration import LEAST_Z
from models.fields import Axis
from models.numerics import helmholtz
from models.repository import SHIPPED, load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Surrogate
from tests import analytic_surrogates as by_hand

GAP = 1e-4  # of completeness
SINGLE = 1e-5  # float32 through a graph
EXACT = 1e-9
POLYGON = {"x": [0.4, 2.6, 2.2, 0.6], "y": [0.3, 0.5, 1.8, 1.6]}
BOX = {"type": "region_mean", "x": [0.5, 2.0], "y": [0.5, 1.5]}
QUANTITIES = (
    {"type": "region_mean", "x": [0.2, 0.5], "y": [0.4, 0.9]},
    {"type": "norm", "polygon": {"x": [0.1, 0.8, 0.5], "y": [0.1, 0.2, 0.9]}},
    {"type": "max"},
    {"type": "linear", "weights": np.outer(np.linspace(-1, 1, 85), np.ones(85)).tolist()},
)


@pytest.fixture(scope="module")
def medium() -> np.ndarray:
    return sampler.draw(555, 0, 421)[::5, ::5].astype(np.float32)


@pytest.fixture
def source(generator) -> dict[str, np.ndarray]:
    return {"source": generator.standard_normal((1, 7, 5))}


def darcy_explained(darcy, medium, **asked):
    return document(explain(darcy, {"permeability": medium[None]}, Request(**asked)))


# By hand


def test_integrated_gradients_of_a_linear_model_are_the_gradient_times_the_change(source):
    model = by_hand.linear()
    found = explain(model, source, Request(BOX, baseline=0.25, regions=1))
    weights = grid.quadrature_weights(by_hand.STATE.axes) * grid.inside(by_hand.STATE.axes, BOX, "quantity")
    raw = (by_hand.matrix() @ (weights / weights.sum()).ravel()).reshape(7, 5)
    np.testing.assert_allclose(found.attribution.maps["source"], raw * (source["source"][0] - 0.25), atol=SINGLE)
    assert found.attribution.completeness.nodes == 8 and found.attribution.completeness.relative < SINGLE
    table = document(found)["regions"]
    spread = abs(found.value - found.baseline_value) * by_hand.FACTORS.std(ddof=1)
    assert table[0]["standard_deviation"] == pytest.approx(spread, rel=1e-4)  # members are the mean times a factor


def test_gradient_is_a_density_with_its_convention(source):
    found = document(explain(by_hand.linear(), source, Request({"type": "point", "x": 1.0, "y": 1.0}, "gradient")))
    part = found["attribution"]["source"]
    area = grid.quadrature_weights(by_hand.SOURCE.axes)
    np.testing.assert_allclose(part["values"] * area, by_hand.matrix()[:, 2 * 5 + 2].reshape(7, 5), atol=SINGLE)
    assert "density" in part["convention"] and part["deviation"].shape == (7, 5)


def test_the_path_is_halved_where_it_bends_until_the_sum_is_complete(source):
    steep = by_hand.pointwise(lambda f: np.tanh(6 * f), lambda f: 6 / np.cosh(6 * f) ** 2)
    smooth = explain(steep, source, Request(BOX, baseline=-3.0)).attribution.completeness
    assert 8 < smooth.nodes <= 64 and smooth.relative <= GAP
    kinked = by_hand.pointwise(np.abs, np.sign)
    functional = Functional(
        kinked, {"source": source["source"][0]}, make_quantity(kinked.manifest.outputs, None, BOX), False
    )
    start = {"source": np.full((7, 5), -0.7)}
    _, found, rule = attribution.path_integral(functional, start)
    assert rule.weights.sum() == pytest.approx(1.0) and len(rule.weights) == found.nodes > 8


def test_what_stays_incomplete_is_admitted(monkeypatch, source):
    monkeypatch.setattr(attribution, "MOST_NODES", 24)
    found = explain(by_hand.pointwise(np.abs, np.sign), source, Request(BOX, baseline=-0.7))
    assert found.attribution.completeness.nodes <= 24 and found.attribution.completeness.relative > GAP
    assert any(text.startswith("incomplete") for text in found.warnings)


def test_large_grids_try_fewer_nodes_and_work_is_limited_before_it_begins(monkeypatch, source):
    assert attribution.most_nodes(1) == 120 and attribution.most_nodes(2**30) == 8
    assert attribution.most_nodes(2**18) == 64 and attribution.member_nodes(2**18, 3) == 10
    monkeypatch.setattr(plan, "MOST_RUNS", 10)
    with pytest.raises(TooLarge) as caught:
        explain(by_hand.linear(), source, Request(BOX))
    assert caught.value.field == "method"


def test_what_if_sets_the_true_response_beside_the_first_order_one(source):
    square = by_hand.pointwise(np.square, lambda f: 2 * f)
    small, large = (
        explain(square, source, Request({"type": "point", "x": 1.0, "y": 1.0}, "what_if", change=size))
        for size in (1e-2, 5.0)
    )
    column = by_hand.matrix()[:, 12].reshape(7, 5)
    assert small.response.linear == pytest.approx(float((2e-2 * source["source"][0] * column).sum()), rel=1e-3)
    assert small.response.true - small.response.linear == pytest.approx(1e-4 * column.sum(), rel=0.05)
    assert small.attribution.total == pytest.approx(small.response.linear, rel=1e-4)
    assert not any("first-order" in text for text in small.warnings)
    assert any("first-order" in text for text in large.warnings)


def test_the_linearity_range_ends_where_a_square_bends():
    bent = by_hand.pointwise(lambda f: f + 40 * f**2, lambda f: 1 + 80 * f)
    quantity = make_quantity(bent.manifest.outputs, None, {"type": "linear", "weights": np.ones((7, 5)).tolist()})
    rest = np.zeros((7, 5), dtype=np.float32)

    def reach(model):
        functional = Functional(model, {"source": rest}, quantity, exact=False)
        maps = {"source": functional.gradients({"source": rest[None]})["source"][0]}
        direction = checks.direction(functional.sample, model.manifest.inputs, maps)["source"]
        return checks.linearity_range(functional, model.manifest.inputs, maps), maps["source"], direction

    found, slopes, direction = reach(bent)
    bend = 40 * (np.square(direction).ravel() @ by_hand.matrix()).sum()
    limit = abs(checks.DEVIATION * (slopes * direction).sum() / bend)
    assert not found.is_least and 0.85 * limit <= found.size <= limit * (1 + SINGLE)  # the last step is 10 % wide
    assert reach(by_hand.linear())[0] == checks.Linearity(1.0, True)


def test_spectral_noise_tells_a_checkerboard_from_a_hill():
    item = by_hand.SOURCE.__class__("f", "f", "1", "", (Axis("x", "1", 32, 0.0, 1.0), Axis("y", "1", 32, 0.0, 1.0)))
    rows, columns = np.indices(item.shape)
    area = grid.quadrature_weights(item.axes)
    assert checks.spectral_noise(item, area * (-1.0) ** (rows + columns)) > 0.9
    assert checks.spectral_noise(item, area * np.exp(-((rows - 16) ** 2 + (columns - 16) ** 2) / 60.0)) < 1e-3


def shapley_by_permutations(worth, players):
    values = np.zeros(players)
    for order in itertools.permutations(range(players)):
        held = 0
        for player in order:
            values[player] += worth[held | 1 << player] - worth[held]
            held |= 1 << player
    return values / factorial(players)


@settings(max_examples=25, deadline=None)
@given(players=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_shapley_values_are_those_of_all_orders_and_efficient(players, seed):
    worth = np.random.default_rng(seed).standard_normal(2**players)
    values = attribution.shapley_values(worth, players)
    np.testing.assert_allclose(values, shapley_by_permutations(worth, players), atol=EXACT)
    assert values.sum() == pytest.approx(worth[-1] - worth[0], abs=EXACT)


def test_shapley_values_are_symmetric_and_ignore_who_changes_nothing():
    sizes = attribution.coalitions(4)[:, :3].sum(axis=1)
    first, second, third, idle = attribution.shapley_values(np.square(sizes).astype(float), 4)
    assert first == pytest.approx(second) == pytest.approx(third) == pytest.approx(3.0)
    assert idle == pytest.approx(0.0, abs=EXACT)


def test_shapley_of_a_linear_model_equals_occlusion_and_integrated_gradients(source):
    found = [
        explain(by_hand.linear(), source, Request(BOX, method, baseline=0.0, regions=2)).attribution.regions
        for method in ("shapley", "occlusion", "integrated_gradients")
    ]
    np.testing.assert_allclose(found[0], found[1], atol=SINGLE)
    np.testing.assert_allclose(found[0], found[2], atol=SINGLE)


# Quantities


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), sharpness=st.floats(BLUNTEST, SHARPEST), points=st.integers(1, 40))
def test_the_soft_maximum_lies_below_the_maximum_by_at_most_its_bound(seed, sharpness, points):
    values = np.random.default_rng(seed).standard_normal((1, 1, points))
    form = SoftMaximum(np.ones(points, dtype=bool), sharpness)
    gap = values.max() - float(form.of(values)[0, 0])
    assert -EXACT <= gap <= form.gap_bound + EXACT


def test_the_bluntest_maximum_is_the_mean(generator):
    values = 1e-3 * generator.standard_normal((1, 1, 50))
    assert float(SoftMaximum(np.ones(50, dtype=bool), BLUNTEST).of(values)[0, 0]) == pytest.approx(values.mean())


def test_sums_are_checked_where_the_difference_is_all_but_zero():
    found = [attribution.Completeness.of(np.array([1.0, last]), 1e-9, 1.0, 8) for last in (-1.0, -0.5)]
    assert [one.relative for one in found] == [None, None]
    assert [one.holds for one in found] == [True, False]


@pytest.mark.parametrize("kind", ["norm", "max", "exceedance"])
def test_slopes_are_derivatives(kind, generator):
    request = {"type": kind, **({"threshold": 0.1} if kind == "exceedance" else {})}
    quantity = make_quantity((by_hand.STATE,), None, request).settled(np.array([-1.0, 1.0] * 35))
    u, d = generator.standard_normal((2, 1, 7, 5))
    step = 1e-5
    difference = quantity.of(u + step * d, exact=False) - quantity.of(u - step * d, exact=False)
    assert float((quantity.slope(u) * d).sum()) == pytest.approx(difference[0] / (2 * step), rel=1e-5)


def test_smooth_exceedance_tends_to_the_share_of_area(generator):
    values, shares = generator.standard_normal((1, 1, 200)), np.full(200, 1 / 200)
    exact = float(Exceedance(shares, 0.3).of(values)[0, 0])
    gaps = [abs(float(SmoothExceedance(shares, 0.3, b).of(values)[0, 0]) - exact) for b in (3.0, 30.0, 3000.0)]
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 5e-3  # half of one point of 200 at worst


def test_a_polygon_holds_the_nodes_of_its_area_whatever_its_orientation_and_the_order_of_axes():
    axes = (Axis("y", "m", 201, 0.0, 1.0), Axis("x", "m", 301, 0.0, 3.0))
    triangle = {"x": [0.3, 2.7, 1.5], "y": [0.1, 0.3, 0.9]}
    inside = grid.inside(axes, {"polygon": triangle}, "quantity")
    area = float((grid.quadrature_weights(axes) * inside).sum())
    assert area == pytest.approx(0.84, rel=0.01)  # ½ |(2.4, 0.2) × (1.2, 0.8)|
    backwards = {name: values[::-1] for name, values in triangle.items()}
    np.testing.assert_array_equal(inside, grid.inside(axes, {"polygon": backwards}, "quantity"))
    turned = grid.inside(axes[::-1], {"polygon": dict(reversed(triangle.items()))}, "quantity")
    np.testing.assert_array_equal(inside, turned.T)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_rectangular_polygon_is_the_closed_box(turn):
    axes = by_hand.STATE.axes
    corners = {"x": [0.5, 2.0, 2.0, 0.5][::turn], "y": [0.5, 0.5, 1.5, 1.5][::turn]}
    box = grid.inside(axes, {"x": [0.5, 2.0], "y": [0.5, 1.5]}, "quantity")
    np.testing.assert_array_equal(grid.inside(axes, {"polygon": corners}, "quantity"), box)


def test_a_polygon_that_crosses_itself_holds_both_lobes_with_their_edges():
    axes = (Axis("x", "m", 11, 0.0, 1.0), Axis("y", "m", 11, 0.0, 1.0))
    inside = grid.inside(axes, {"polygon": {"x": [0.0, 1.0, 1.0, 0.0], "y": [0.0, 1.0, 0.0, 1.0]}}, "quantity")
    x, y = np.meshgrid(np.arange(11), np.arange(11), indexing="ij")
    np.testing.assert_array_equal(inside, np.abs(y - 5) <= np.abs(x - 5))


def test_a_point_between_nodes_is_interpolated(darcy):
    quantity = make_quantity(darcy.manifest.outputs, None, {"type": "point", "x": 0.5 / 84, "y": 3 / 84})
    assert quantity.weights[0, 3] == pytest.approx(0.5)
    assert quantity.weights.sum() == pytest.approx(1.0)


def test_a_window_of_a_model_of_time_is_the_integral_and_needs_no_time_of_its_own(generator):
    start = generator.standard_normal(7)
    quantity = {"type": "point", "x": 1.0, "lead_time": [0.5, 1.5]}
    found = explain(by_hand.decay(), {"start": start[None]}, Request(quantity, baseline=0.0))
    factor = np.exp(-0.5) - np.exp(-1.5)
    assert found.value == pytest.approx(start[2] * factor, rel=SINGLE)
    expected = np.zeros(7)
    expected[2] = start[2] * factor
    np.testing.assert_allclose(found.attribution.maps["start"], expected, atol=SINGLE)
    at_once = explain(by_hand.decay(), {"start": start[None]}, Request(quantity | {"lead_time": 0.7}, "gradient"))
    assert at_once.value == pytest.approx(start[2] * np.exp(-0.7), rel=SINGLE)


def test_a_window_of_an_axis_of_lead_times_is_their_mean():
    now = {"now": np.array([[2.0, 5.0]])}
    asked = {"type": "region_mean", "level": "high"}
    for lead_time, factor in ((None, 2.5), (3, 3.0), ([2, 4], 3.0), ([1.5, 3.4], 2.5)):
        quantity = asked if lead_time is None else asked | {"lead_time": lead_time}
        found = explain(by_hand.stations(), now, Request(quantity, "gradient"))
        assert found.value == pytest.approx(5.0 * factor, rel=SINGLE)
        np.testing.assert_allclose(found.attribution.maps["now"], [0.0, factor], rtol=SINGLE)


# Smoothing and baselines


def test_smoothing_solves_its_equation_and_keeps_the_integral(generator):
    values, length = generator.standard_normal((9, 8)), (2.0, 1.5)
    found = helmholtz.smooth(values, length, (False, True))
    padded = np.vstack([found[1:2], found, found[-2:-1]])  # mirrored about the boundary nodes
    second_x = padded[2:] - 2 * found + padded[:-2]
    second_y = np.roll(found, 1, axis=1) - 2 * found + np.roll(found, -1, axis=1)
    np.testing.assert_allclose(found - length[0] ** 2 * second_x - length[1] ** 2 * second_y, values, atol=EXACT)
    weights = np.array([0.5, *np.ones(7), 0.5])[:, None]
    assert (weights * found).sum() == pytest.approx((weights * values).sum(), abs=EXACT)


def test_smoothed_maps_come_with_their_length_and_sum(source):
    found = document(explain(by_hand.linear(), source, Request(BOX, smoothing=0.1)))["attribution"]["source"]
    assert found["smoothing"]["lengths"] == pytest.approx({"x": 0.3, "y": 0.2})
    assert found["smoothed"].sum() == pytest.approx(found["values"].sum(), abs=SINGLE)
    assert np.abs(np.diff(found["smoothed"], axis=0)).sum() < np.abs(np.diff(found["values"], axis=0)).sum()


def test_named_baselines_are_the_training_mean_and_a_control_run(source, darcy, medium):
    assert explain(by_hand.linear(), source, Request(BOX, baseline="mean")).plan.baseline.values["source"].max() == 1.0
    with pytest.raises(NotOffered, match="control"):
        explain(by_hand.linear(), source, Request(BOX, baseline="control"))
    found = darcy_explained(darcy, medium, quantity=QUANTITIES[0], method="occlusion", baseline="control")
    assert "golden" in found["baseline"]


def test_own_means_keep_the_level_of_each_station_and_turn_directions_the_short_way():
    surrogate = load_surrogate(SHIPPED / "site_weather" / "1", RuntimeOptions())
    fields = plan.explained_fields(surrogate, None)
    sample = {name: values[0] for name, values in example(surrogate).items()}
    pressure = np.linspace(990.0, 1010.0, 100).reshape(25, 4)
    directions = np.where(np.arange(25)[:, None] < 20, 350.0, 20.0) + np.zeros(4)
    sample |= {"surface_pressure": pressure, "wind_direction": directions}
    found = make_baseline(surrogate, sample, fields, None, 8).one(0)
    np.testing.assert_allclose(found["surface_pressure"], np.broadcast_to(pressure.mean(axis=0), (25, 4)))
    turn = np.deg2rad(found["wind_direction"])
    angles = np.deg2rad(directions[:, 0])
    np.testing.assert_allclose(np.tan(turn), np.sin(angles).sum() / np.cos(angles).sum(), atol=EXACT)
    assert np.abs(found["wind_direction"] - directions).max() < 90.0  # through north, not through south
    for item in fields:  # of places that differ in nothing but their name, all together
        assert not item.axes or np.ptp(found[item.name]) > 0.0


def test_a_path_from_level_ground_keeps_hollows_that_the_height_above_the_sea_would_round_away(generator):
    surrogate = load_surrogate(SHIPPED / "flood" / "1", RuntimeOptions())
    sample = {name: values[0] for name, values in example(surrogate).items()}
    quantity = make_quantity(surrogate.manifest.outputs, None, {"type": "norm"})
    relief = 1e-4 * generator.standard_normal((2, 64, 64))
    found = Functional(surrogate, sample, quantity, exact=True).batch(
        {"elevation": sample["elevation"].mean(dtype=np.float64) + relief}
    )
    np.testing.assert_allclose(found["elevation"], relief, rtol=SINGLE, atol=EXACT)


def test_fields_of_named_values_alone_have_one_own_mean():
    found = explain(by_hand.stations(), {"now": np.array([[1.0, 3.0]])}, Request({"type": "norm"}, "occlusion"))
    np.testing.assert_array_equal(found.plan.baseline.values["now"], [[2.0, 2.0]])


def test_expected_attributions_add_up_to_the_mean_difference_with_their_spread(darcy, medium):
    asked = {"quantity": QUANTITIES[0], "method": "shapley", "baseline": "expected", "baselines": 2}
    found = darcy_explained(darcy, medium, **asked)
    difference = found["quantity"]["value"] - found["quantity"]["baseline_value"]
    assert sum(row["value"] for row in found["regions"]) == pytest.approx(difference, rel=1e-4)
    assert all(row["baseline_deviation"] > 0 for row in found["regions"])
    with pytest.raises(NotOffered, match="law"):
        explain(by_hand.linear(), {"source": np.ones((1, 7, 5))}, Request(BOX, baseline="expected"))


def test_named_regions_and_the_rest_share_everything(source):
    named = [
        {"name": "west", "x": [0.0, 1.0]},
        {"name": "pond", "polygon": {"x": [1.4, 2.6, 2.6], "y": [0.4, 0.4, 1.6]}},
    ]
    found = explain(by_hand.linear(), source, Request(BOX, "shapley", baseline=0.0, regions=named))
    assert [row["id"] for row in document(found)["regions"]] == ["west", "pond", "rest"]
    assert found.attribution.regions.sum() == pytest.approx(found.value - found.baseline_value, rel=1e-4)


OVERLAPPING = [{"name": "a", "x": [0.0, 2.0]}, {"name": "b", "x": [1.0, 3.0]}]
BAD = [
    ({"quantity": {"type": "median"}}, UnknownOption, "quantity.type"),
    ({"quantity": {"type": ["norm"]}}, UnknownOption, "quantity.type"),
    ({"quantity": {"type": "point", "x": 0.5}}, UnknownOption, "quantity.y"),
    ({"quantity": {"type": "point", "x": 9.0, "y": 0.5}}, OutOfRange, "quantity.x"),
    ({"quantity": {"type": "region_mean", "x": [2.0, 1.0]}}, OutOfRange, "quantity.x"),
    ({"quantity": {"type": "region_mean", "x": [0.6, 0.7]}}, OutOfRange, "quantity"),
    ({"quantity": {"type": "region_mean", "x": "everywhere"}}, UnknownOption, "quantity.x"),
    ({"quantity": {"type": "norm", "z": [0, 1]}}, UnknownOption, "quantity.z"),
    ({"quantity": {"type": "norm", "field": "velocity"}}, UnknownOption, "quantity.field"),
    ({"quantity": {"type": "norm", "lead_time": 1.0}}, UnknownOption, "quantity.lead_time"),
    ({"quantity": {"type": "linear", "weights": [[1.0]]}}, WrongShape, "quantity.weights"),
    ({"quantity": {"type": "linear", "weights": [["1"] * 5] * 7}}, WrongShape, "quantity.weights"),
    ({"quantity": {"type": "max", "sharpness": -1.0}}, OutOfRange, "quantity.sharpness"),
    ({"quantity": {"type": "max", "sharpness": 1e-300}}, OutOfRange, "quantity.sharpness"),
    ({"quantity": {"type": "linear", "weights": np.full((7, 5), 1e39).tolist()}}, OutOfRange, "quantity.weights"),
    ({"quantity": {"type": "exceedance"}}, UnknownOption, "quantity.threshold"),
    ({"quantity": {"type": "norm", "mask": [[1, 0]]}}, WrongShape, "quantity.mask"),
    ({"quantity": {"type": "norm", "mask": np.full((7, 5), 0.5).tolist()}}, UnknownOption, "quantity.mask"),
    ({"quantity": {"type": "norm", "mask": np.zeros((7, 5)).tolist()}}, OutOfRange, "quantity"),
    ({"quantity": {"type": "norm", "polygon": {"x": [0, 1], "y": [0, 1]}}}, UnknownOption, "quantity.polygon"),
    ({"quantity": {"type": "norm", "polygon": {"x": [0, 1, 2], "y": [0, 1, 2]}}}, UnknownOption, "quantity.polygon"),
    ({"quantity": {"type": "norm", "polygon": {"x": [0, 1, 2], "z": [0, 1, 0]}}}, UnknownOption, "quantity.polygon"),
    ({"quantity": {"type": "norm", "polygon": {"x": [7, 8, 8], "y": [7, 7, 8]}}}, OutOfRange, "quantity"),
    ({"quantity": {"type": "norm", "polygon": {"x": [0, 1e300, 1], "y": [0, 1, 1]}}}, OutOfRange, "quantity.polygon"),
    ({"baseline": "average"}, UnknownOption, "baseline"),
    ({"baseline": [[1.0, 2.0]]}, WrongShape, "baseline"),
    ({"baseline": 99.0}, OutOfRange, "baseline"),
    ({"baseline": "5"}, UnknownOption, "baseline"),
    ({"baseline": True}, UnknownOption, "baseline"),
    ({"baseline": [["1"] * 5] * 7}, UnknownOption, "baseline"),
    ({"baseline": {"sink": 1.0}}, UnknownOption, "baseline.sink"),
    ({"regions": 0}, OutOfRange, "regions"),
    ({"regions": []}, UnknownOption, "regions"),
    ({"regions": [{"name": "a", "x": [5.0, 6.0]}]}, OutOfRange, "regions.0.x"),
    ({"regions": [{"name": "a"}, {"name": "a"}]}, UnknownOption, "regions"),
    ({"regions": [{"name": "a", "field": ["source"]}]}, UnknownOption, "regions.0.field"),
    ({"regions": ["west"]}, UnknownOption, "regions.0"),
    ({"regions": [{"name": "a", "depth": 1}]}, UnknownOption, "regions.0.depth"),
    ({"method": "shapley", "regions": 4}, TooLarge, "regions"),
    ({"method": "shapley", "regions": OVERLAPPING}, UnknownOption, "regions"),
    ({"method": "what_if"}, MissingField, "change"),
    ({"method": "what_if", "change": 0.0}, UnknownOption, "change"),
    ({"method": "what_if", "change": 200.0}, OutOfRange, "change"),
    ({"method": "what_if", "change": "0.1"}, UnknownOption, "change"),
    ({"method": "what_if", "change": [1.0, 2.0]}, WrongShape, "change"),
    ({"change": 1.0}, UnknownOption, "change"),
    ({"smoothing": 0.7}, OutOfRange, "smoothing"),
    ({"wrt": []}, UnknownOption, "wrt"),
]


@pytest.mark.parametrize(("asked", "error", "field"), BAD)
def test_what_makes_no_sense_is_refused_before_any_work(asked, error, field, source):
    model = by_hand.linear()
    with pytest.raises(error) as caught:
        explain(model, source, Request(**{"quantity": BOX, **asked}))
    assert caught.value.field == field
    assert model.runs == 0


@pytest.mark.parametrize("window", [[0.5, 9.0], [1.0, 0.5], [1.0], "noon", -1.0])
def test_windows_outside_the_lead_times_are_refused_before_any_work(window):
    model = by_hand.decay()
    with pytest.raises((OutOfRange, UnknownOption)) as caught:
        explain(model, {"start": np.ones((1, 7))}, Request({"type": "norm", "lead_time": window}))
    assert caught.value.field == "quantity.lead_time" and model.runs == 0
    with pytest.raises(OutOfRange, match="at least one of the lead times"):
        explain(by_hand.stations(), {"now": np.ones((1, 2))}, Request({"type": "norm", "lead_time": [1.2, 1.8]}))


# Shipped


FAILURES = {
    "deletion_z_median": (-0.04, "deletion z = -0.0"), "insertion_z_median": (1.0, "insertion z = 1.0"),
    "learned_share_median": (0.003, "classical solver"), "randomisation_learned": ({"8 of 8": 0.9}, "rank correlation of 0.90"),
}  # fmt: skip


@pytest.mark.parametrize("figure", FAILURES)
def test_what_a_bundle_failed_at_registration_is_said_in_its_answers(figure, source):
    value, text = FAILURES[figure]
    model, passed = by_hand.linear(), {"deletion_z_median": 3.0, "insertion_z_median": 4.0, "learned_share_median": 1.0}
    model.manifest.document["report"] = {"explanations": passed | {"randomisation_learned": {"8 of 8": 0.1}}}
    assert not explain(model, source, Request(BOX, baseline=0.0)).warnings
    model.manifest.document["report"]["explanations"][figure] = value
    found = explain(model, source, Request(BOX, baseline=0.0))
    assert any(text in said for said in found.warnings)
    assert not explain(model, source, Request(BOX, "occlusion", baseline=0.0)).warnings  # uses no derivative
    assert document(found)["checks"]["registered"]["least_z"] == LEAST_Z


def example(surrogate: Surrogate) -> dict[str, np.ndarray]:
    """The first golden input as a batch of one."""
    golden = surrogate.bundle.arrays("golden.npz")
    return {item.name: golden[f"input.{item.name}"][:1] for item in surrogate.manifest.inputs}


def test_every_bundle_explains_itself_by_two_methods_and_passes_or_admits_its_checks(bundle_folder):
    surrogate = load_surrogate(bundle_folder, RuntimeOptions())
    output = surrogate.manifest.outputs[0]
    place = {axis.name: axis.labels[0] if axis.labels else float(axis.coordinates[axis.points // 2])
             for axis in output.axes if axis.name != "lead_time"}  # fmt: skip
    found = explain(surrogate, example(surrogate), Request({"type": "point", **place}, "gradient"))
    said = document(found)
    if "vjp" in surrogate.graphs:
        assert said["checks"]["adjoint_identity"] <= checks.IDENTITY
        cosine = said["checks"]["solver_adjoint_cosine"]
        assert cosine is None or cosine >= checks.ALIGNED or any("cosine" in text for text in found.warnings)
        total = sum(row["value"] for row in said["regions"])
        assert total == pytest.approx(found.attribution.total, rel=1e-6, abs=1e-12)
    picture = Image.open(io.BytesIO(explanation_sheet.encode(found)))
    assert picture.format == "PNG" and picture.width >= 880
    crossed = explain(surrogate, example(surrogate), Request({"type": "norm"}, "shapley", baseline="mean"))
    assert len(crossed.plan.regions) <= 8
    assert crossed.attribution.completeness.relative is None or crossed.attribution.completeness.relative < SINGLE


def test_a_region_is_outlined_along_the_edges_of_its_cells():
    mask = np.zeros((4, 6))
    mask[1:3, 2:5] = 1.0
    axes = Figure().add_subplot()
    along = (Axis("y", "m", 4, 0.0, 4.0), Axis("x", "m", 6, 0.0, 6.0))
    explanation_sheet._outline(axes, panels.upright(along, mask), "white", 1.0)
    segments = np.concatenate([lines.get_segments() for lines in axes.collections])
    assert len(segments) == 2 * (2 + 3)
    assert segments[..., 0].min() == 2.0 and segments[..., 0].max() == 5.0
    assert segments[..., 1].min() == 1.0 and segments[..., 1].max() == 3.0


def test_the_stations_that_a_quantity_looks_at_are_ringed_and_all_of_them_are_not():
    stations = Axis("station", "1", 3, 0.0, 2.0, labels=("a", "b", "c"))
    for mask, rings in (([False, True, False], [1.0]), ([True, True, True], [])):
        axes = Figure().add_subplot()
        explanation_sheet._answer_line(axes, stations, np.arange(3.0), np.array(mask), "")
        drawn = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
        assert [float(x) for line in drawn for x in line.get_xdata()] == rings


def test_a_share_that_rounds_to_zero_has_no_sign():
    assert explanation_sheet._share({"share": -1e-4, "value": -1.0}) == "0 %"
    assert explanation_sheet._share({"share": -0.17, "value": -1.0}) == "-17 %"


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda q: q["type"])
def test_integrated_gradients_are_complete_and_regions_add_up(darcy, medium, quantity):
    found = darcy_explained(darcy, medium, quantity=quantity, regions=5)
    difference = found["quantity"]["value"] - found["quantity"]["baseline_value"]
    assert found["completeness"]["relative"] <= GAP
    assert sum(row["value"] for row in found["regions"]) == pytest.approx(difference, rel=2 * GAP)
    assert sum(row["share"] for row in found["regions"]) == pytest.approx(1.0)
    assert found["checks"]["adjoint_identity"] <= checks.IDENTITY
    assert found["checks"]["solver_adjoint_cosine"] >= checks.ALIGNED


def test_the_cosine_check_sees_a_wrong_gradient(darcy, medium, generator):
    quantity = make_quantity(darcy.manifest.outputs, None, QUANTITIES[0])
    sample = {"permeability": medium}
    maps = Functional(darcy, sample, quantity, exact=False).gradients({"permeability": medium[None]})["permeability"][0]
    assert checks.solver_cosine(darcy, sample, quantity, {"permeability": maps}) > checks.ALIGNED
    shuffled = generator.permutation(maps.ravel()).reshape(maps.shape)  # keeps the mean, which is most of it
    assert abs(checks.solver_cosine(darcy, sample, quantity, {"permeability": shuffled})) < 0.6


def test_interval_holds_the_value_and_is_withdrawn_out_of_domain(darcy, medium):
    found = darcy_explained(darcy, medium, quantity=QUANTITIES[0], method="occlusion", regions=1)
    low, high = found["quantity"]["interval"]
    assert low < found["quantity"]["value"] < high
    foreign = darcy_explained(darcy, 2 * medium, quantity=QUANTITIES[0], method="occlusion", regions=1)
    assert foreign["quantity"]["interval"] is None
    assert foreign["quantity"]["statement"]["kind"] == "none"
    assert foreign["warnings"]

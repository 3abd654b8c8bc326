"""Floods: the scheme keeps water, the compiled scheme is the scheme, splits share no terrain, scores are the book's."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from models.catalog import flood
from models.catalog.flood import bound, cases, compiled, features, reference, sampler, scores, spec
from models.catalog.flood.reference import Terrain

HOUR = np.array([3600.0])
SMALL = 24

FLOAT32_TOLERANCE = 1e-3  # ten events gave 6e-5: round-off of 6e-8, enlarged where faces cross the millimetre


def event(index: int, family: str = "training") -> tuple[Terrain, np.ndarray]:
    inputs = sampler.draw(7, index, SMALL, family)
    return reference.terrain_of(inputs), inputs["rain"]


def relative(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("index", range(3))
def test_water_is_kept_and_never_negative(index: int):
    terrain, rain = event(index)
    run = reference.simulate(terrain, rain, HOUR)
    assert run.depth.min() >= 0.0
    assert abs(run.mass_error) < 1e-12  # round-off of about 1e3 steps
    assert np.all(run.maximum_depth >= run.depth[0])


def test_cases_are_met_at_their_order():
    for case in cases.CASES:
        errors = [np.abs(case.solve(n) - case.exact(n)).max() / case.exact(n).max() for n in case.points]
        assert errors[-1] <= case.tolerance, case.name
        if case.order is not None:
            order = np.polyfit(-np.log(np.array(case.points)), np.log(errors), 1)[0]
            assert order == pytest.approx(case.order, abs=0.1), case.name


def test_the_travelling_wave_satisfies_its_equation():
    """(g h − u²) h' = g n² u² h^{−1/3} by central differences."""
    distance, step = np.linspace(50.0, 1500.0, 40), 1e-3
    depth = cases.wave_depth(distance)
    slope = (cases.wave_depth(distance + step) - cases.wave_depth(distance - step)) / (2 * step)
    left = (reference.GRAVITY * depth - cases.WAVE_SPEED**2) * slope
    right = reference.GRAVITY * (cases.WAVE_ROUGHNESS * cases.WAVE_SPEED) ** 2 * depth ** (-1 / 3)
    np.testing.assert_allclose(left, right, rtol=1e-6)  # step² over the curvature length², and round-off 1e-16/1e-3


def test_answers_turn_with_the_terrain():
    terrain, rain = event(0)
    turned = Terrain(np.rot90(terrain.elevation), np.rot90(terrain.roughness))
    there, here = reference.simulate(turned, rain, HOUR), reference.simulate(terrain, rain, HOUR)
    # sums run in another order
    np.testing.assert_allclose(there.depth[0], np.rot90(here.depth[0]), atol=1e-8)


def test_altitude_does_not_matter():
    terrain, rain = event(1)
    higher = Terrain(terrain.elevation + 4096.0, terrain.roughness)
    low, high = (reference.simulate(ground, rain, np.array([900.0])).depth for ground in (terrain, higher))
    np.testing.assert_allclose(high, low, atol=1e-8)  # bed differences change by 1e-12


def test_deep_water_shows_no_checkerboard():
    """Rain in a shallow bowl: the surface is level, where at a Courant number of 0.7 it tears by 7 cm."""
    y, x = np.meshgrid(*2 * (np.linspace(-1.0, 1.0, SMALL),), indexing="ij")
    bowl = Terrain(0.02 * (x**2 + 0.5 * y**2), 0.03 + 0.02 * (x > 0))
    level = reference.simulate(bowl, np.full(6, 300.0), np.array([5400.0])).depth[0] + bowl.elevation
    assert np.ptp(level) < 2e-3  # 0.4 mm measured: the last rain still spreads


def test_a_film_on_a_slope_is_smooth():
    """Explicit friction oscillates here from step to step and from cell to cell."""
    slope = Terrain(np.broadcast_to(-1.0 * np.arange(20.0), (2, 20)).copy(), np.full((2, 20), 0.1))
    depth = reference.simulate(slope, np.full(2, 20.0), np.array([1800.0])).depth[0, 0, :-2]
    assert np.all(np.diff(depth) > 0.0)


def test_output_times_do_not_change_the_rain():
    """A flat basin holds exactly what has fallen, also at times inside a rain step."""
    flat = Terrain(np.zeros((4, 4)), np.full((4, 4), 0.05))
    run = reference.simulate(flat, np.array([36.0, 72.0]), np.array([100.0, 1000.0, 5000.0]))
    expected = [100 * 1e-5, 900 * 1e-5 + 100 * 2e-5, 900 * 3e-5]  # 36 mm/h is 1e-5 m/s
    np.testing.assert_allclose(run.depth[:, 0, 0], expected, rtol=1e-12)


class TestCompiled:
    @pytest.mark.parametrize("index", range(4))
    def test_it_is_the_reference_to_float32(self, index: int):
        terrain, rain = event(index)
        times = spec.LEAD_TIMES.values
        fast, slow = compiled.simulate(terrain, rain, times), reference.simulate(terrain, rain, times)
        assert relative(fast.maximum_depth, slow.maximum_depth) < FLOAT32_TOLERANCE
        assert relative(fast.depth, slow.depth) < FLOAT32_TOLERANCE
        assert fast.steps == pytest.approx(slow.steps, abs=2)

    def test_it_keeps_water(self):
        terrain, rain = event(2)
        assert abs(compiled.simulate(terrain, rain, HOUR).mass_error) < 1e-6  # float32, 1e3 steps, errors of both signs

    def test_a_rectangle_is_not_transposed(self):
        terrain, rain = event(3)
        half = Terrain(terrain.elevation[: SMALL // 2], terrain.roughness[: SMALL // 2])
        times = np.array([900.0])
        fast, slow = compiled.simulate(half, rain, times), reference.simulate(half, rain, times)
        assert relative(fast.depth, slow.depth) < FLOAT32_TOLERANCE

    def test_the_cube_root_is_accurate_in_all_the_range_of_depths(self):
        from models.catalog.flood import kernel

        depths = np.geomspace(1e-3, 1e3, 500).astype(np.float32)
        found = np.array([kernel.reciprocal_cube_root(depth) for depth in depths])
        np.testing.assert_allclose(found, depths.astype(np.float64) ** (-1 / 3), rtol=3e-7)

    def test_baselines_answer_on_the_served_grid_and_the_same_grid_is_exact(self):
        inputs = sampler.draw(7, 0, SMALL, "training")
        truth = compiled.solve(inputs)["maximum_depth"]
        answers = {name: method() for name, method in flood.baselines.methods(inputs).items()}
        np.testing.assert_array_equal(answers["same grid"], truth)
        for name, depth in answers.items():
            assert depth.shape == truth.shape and depth.min() >= 0.0, name

    def test_subgrid_tables_are_exact_on_a_flat_basin_and_beat_the_coarse_solver(self):
        from models.catalog.flood import subgrid

        flat = Terrain(np.full((8, 8), 50.0), np.full((8, 8), 0.05))
        rain = np.full(6, 40.0)
        level = subgrid.highest_level(flat, rain, 2, 7200.0)
        np.testing.assert_allclose(level - 50.0, 0.06, rtol=1e-4)  # 60 mm; float32 over 240 steps
        errors = {"coarse ×2, depth": 0.0, "coarse ×2, sub-grid tables": 0.0}
        for index in range(4):
            methods = flood.baselines.methods(sampler.draw(7, index, SMALL, "training"))
            truth = methods["same grid"]()
            for name in errors:
                errors[name] += relative(methods[name](), truth)
        assert errors["coarse ×2, sub-grid tables"] < 0.5 * errors["coarse ×2, depth"]

    def test_subgrid_tables_of_an_even_bed_are_the_coarse_solver(self):
        """Each 2×2 block level: volume, faces and conveyance reduce to those of one coarse cell."""
        from models.catalog.flood import baselines, subgrid

        coarse = event(0)[0].elevation[: SMALL // 2, : SMALL // 2]
        coarse = coarse - coarse.mean()  # the tables hold levels in float32, a micrometre at 20 m
        rain, rough = np.full(2, 40.0), np.full(coarse.shape, 0.05)
        fine = Terrain(baselines.repeat(coarse, 2), baselines.repeat(rough, 2))
        level = subgrid.highest_level(fine, rain, 2, 600.0)
        depth = compiled.simulate(Terrain(coarse, rough, 40.0), rain, np.array([600.0])).maximum_depth
        assert relative(level - coarse, depth) < 5e-3  # films of 5 mm on levels good to a few micrometres


def _water(bed, rain):
    from models.catalog.flood import depressions

    flat = np.ascontiguousarray(bed, dtype=np.float64).ravel()
    depth, arrived = depressions.apply(flat, rain, depressions.analyse(flat, bed.shape[1], rain))
    return depth.reshape(bed.shape), arrived.reshape(bed.shape)


class TestStandingWater:
    def test_a_hollow_keeps_what_it_can_hold_and_spills_the_rest(self):
        bed = np.array([[3.0, 3.0, 3.0, 3.0], [3.0, 1.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0]])
        for rain, kept in (
            (0.1, 0.6),
            (0.2, 1.0),
        ):  # the hollow at 1 m drains six cells; it spills at 2 m, over one cell
            depth, arrived = _water(bed, rain)
            assert depth[1, 1] == pytest.approx(kept)
            assert depth[1, 3] == pytest.approx(rain * bed.size - kept)
            assert arrived[1, 3] == pytest.approx(rain * bed.size - kept)
            assert np.count_nonzero(depth) == 2

    @pytest.mark.parametrize("rain", [0.0, 0.003, 0.05, 3.0, 500.0])
    @pytest.mark.parametrize("seed", range(4))
    def test_all_rain_stands_and_every_pool_is_level(self, seed, rain):
        bed = event(seed)[0].elevation
        depth, _ = _water(bed, rain)
        assert depth.min() > -1e-9
        assert depth.sum() == pytest.approx(rain * bed.size)
        level, wet = bed + depth, depth > 1e-6
        for first, second in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
            both = wet[first] & wet[second]
            np.testing.assert_allclose(level[first][both], level[second][both], atol=1e-9)
        if rain == 500.0:
            np.testing.assert_allclose(level, level.mean(), rtol=1e-9)

    @pytest.mark.parametrize("rain", [0.01, 0.06, 2.0])
    @pytest.mark.parametrize("seed", range(4))
    def test_its_derivatives_are_those_of_differences_and_of_each_other(self, seed, rain):
        terrain, _ = event(seed)
        random = np.random.default_rng(seed)
        batch = {"elevation": terrain.elevation[None], "rain": np.full((1, 6), rain / 1.5 * 1e3)}
        tangent = {"elevation": random.standard_normal((1, *terrain.elevation.shape)), "rain": random.random((1, 6))}
        pushed = features.push(batch, tangent)
        step = 1e-7  # metres: no cell changes its pool
        ends = [features.of({k: v + s * step * tangent[k] for k, v in batch.items()}) for s in (1, -1)]
        weights = {name: random.standard_normal(values.shape) for name, values in pushed.items()}
        pulled = features.pull(batch, weights)
        for name, values in pushed.items():
            difference = (ends[0][name] - ends[1][name]) / (2 * step)
            np.testing.assert_allclose(values, difference, atol=1e-4 * np.abs(values).max())
        left = sum(np.vdot(weights[name], values) for name, values in pushed.items())
        right = sum(np.vdot(pulled[name], tangent[name]) for name in tangent)
        assert left == pytest.approx(right, rel=1e-10, abs=1e-10)


def test_landlab_agrees_on_a_valley():
    """An independent implementation of de Almeida et al. (2012), at steps short enough for its explicit friction."""
    landlab = pytest.importorskip("landlab")
    from landlab.components import OverlandFlow

    y, x = np.meshgrid(np.arange(16.0), np.arange(16.0), indexing="ij")
    bed = 10.0 + 0.05 * y + 0.02 * (x - 7.5) ** 2
    grid = landlab.RasterModelGrid(bed.shape, xy_spacing=20.0)
    grid.add_field("topographic__elevation", bed.ravel().copy(), at="node")
    grid.add_full("surface_water__depth", 1e-6, at="node")
    grid.set_closed_boundaries_at_grid_edges(True, True, True, True)
    solver = OverlandFlow(grid, mannings_n=0.05, theta=reference.THETA, rainfall_intensity=1e-5, steep_slopes=False)
    time = 0.0
    while time < 1800.0:
        dt = min(solver.calc_time_step(), 1800.0 - time, 5.0)
        solver.run_one_step(dt=dt)
        time += dt
    inner = (slice(1, -1), slice(1, -1))  # landlab closes the outer ring of nodes
    terrain = Terrain(bed[inner], np.full((14, 14), 0.05))
    ours = reference.simulate(terrain, np.full(2, 36.0), np.array([1800.0])).depth[0]
    theirs = grid.at_node["surface_water__depth"].reshape(bed.shape)[inner]
    assert relative(ours, theirs) < 0.02  # 0.008 measured: steps of 30 s here, 5 s there


def test_training_tiles_are_disjoint_from_all_others_and_inside_the_west():
    training, validation, test = (set(sampler.tiles(seed)) for seed in (0, 1, 2))
    assert training and validation and test
    for one, other in itertools.combinations((training, validation, test), 2):
        assert not one & other
    assert all(set(sampler.tiles(seed)) == test for seed in range(2, 40))
    rows, columns = sampler.jacksboro().shape
    for tile in training | validation | test:
        block = sampler.tile_block(tile)
        assert block.top + block.rows <= rows and block.left + block.columns <= sampler.WEST * columns


@pytest.mark.parametrize("points", [64, 128])
def test_real_crops_stay_inside_their_block(points: int):
    height, width = ((points - 1) * spec.CELL_SIZE / spacing for spacing in sampler.jacksboro().spacing)
    for tile in range(sampler.TILE_ROWS * sampler.TILE_COLUMNS):
        block = sampler.tile_block(tile)
        assert height <= block.rows - 1 and width <= block.columns - 1


def test_the_terrain_law_does_not_depend_on_the_number_of_points():
    """The same draw at 64 and 128 points has the same relief in windows of 1.28 km, up to the luck of the window."""
    deviations = []
    for points in (64, 128):
        draws = (sampler.synthetic_bed(np.random.default_rng(k), 0, points) for k in range(40))
        windows = [bed.reshape(points // 64, 64, points // 64, 64).var(axis=(1, 3)).mean() for bed in draws]
        deviations.append(np.sqrt(np.mean(windows)))
    assert deviations[1] == pytest.approx(deviations[0], rel=0.2)  # 40 draws: 1/√80 is 11 %


@pytest.mark.parametrize("family", sampler.FAMILIES)
def test_rain_and_roughness_follow_the_family(family: str):
    law = sampler.FAMILIES[family]
    inputs = sampler.draw(5, 1, 16, family)
    total = 1e3 * float(bound.rain_depth(inputs["rain"]))
    assert law.rain[0] <= total + 1e-9 and total <= law.rain[1] + 1e-9
    assert law.roughness[0] <= inputs["roughness"].min() and inputs["roughness"].max() <= law.roughness[1]


def test_scores_equal_hand_computed_values():
    truth = np.array([[[0.0, 0.2], [0.4, 2.0]]])
    guess = np.array([[[0.2, 0.2], [0.0, 1.5]]])
    inputs = {"rain": np.array([[400.0, 0, 0, 0, 0, 0]])}  # 100 mm
    depth = np.full((1, 3, 2, 2), 0.09)
    found = scores.scores(inputs, {"maximum_depth": guess, "depth": depth}, {}, {"maximum_depth": truth})
    assert found["CSI at 0.1 m"] == pytest.approx(2 / 4)
    assert found["CSI at 0.3 m"] == pytest.approx(1 / 2)
    assert found["CSI at 1 m"] == 1.0
    assert found["POD at 0.1 m"] == pytest.approx(2 / 3)
    assert found["FAR at 0.1 m"] == pytest.approx(1 / 3)
    assert found["RMSE, m"] == pytest.approx(np.sqrt((0.04 + 0.16 + 0.25) / 4))
    assert found["NSE"] == pytest.approx(1 - 0.45 / 2.51)  # mean 0.65: 0.4225 + 0.2025 + 0.0625 + 1.8225
    assert found["mean absolute error where deeper than 0.3 m, m"] == pytest.approx(0.45)
    assert found["mean water balance defect at the last lead time"] == pytest.approx(0.1)


def test_water_balance_is_an_indicator_and_depth_has_no_bound():
    inputs = sampler.draw(7, 0, 16, "training")
    answer = reference.solve(inputs)
    none, balance = bound.statements(inputs, answer)
    assert (none.kind, none.value) == ("none", None)
    assert balance.kind == "indicator" and balance.relative
    assert balance.value == pytest.approx(0.0, abs=1e-12)
    _, doubled = bound.statements(inputs, {**answer, "depth": 2 * answer["depth"]})
    assert doubled.value == pytest.approx(1.0)


def test_without_rain_there_is_no_balance_to_state():
    inputs = {**sampler.draw(7, 0, 8, "training"), "rain": np.zeros(spec.RAIN_STEPS)}
    answer = reference.solve(inputs)
    assert not answer["maximum_depth"].any()
    assert [statement.kind for statement in bound.statements(inputs, answer)] == ["none", "none"]


def test_importing_the_entry_does_not_import_numba():
    code = "import sys; import models.catalog.flood; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

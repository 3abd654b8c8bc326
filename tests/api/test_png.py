"""Pictures: how many frames, how large, and which way up."""

import io

import numpy as np
import pytest
from PIL import Image

from api.encodings import panels, png
from api.encodings.sheet import Sheet
from models.fields import Axis
from models.surrogate import Question
from tests import small_surrogates as small


def opened(content):
    assert content.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(content))


def film(surrogate, inputs, question=None):
    found = small.forecast_of(surrogate, inputs, question or Question())
    return opened(png.encode_forecast(surrogate, inputs, *found))


def sheet_of(surrogate, inputs):
    return Sheet(surrogate, inputs, surrogate.predict(inputs), None)


def test_steady_field_has_three_panels(darcy, generator):
    medium = np.where(generator.random((1, 85, 85)) < 0.5, 3.0, 12.0)
    inputs = {"permeability": medium}
    answer = darcy.predict(inputs)
    picture = opened(png.encode_answer(darcy, inputs, answer))
    panes = 3 if answer.validity[0].in_domain else 2
    assert picture.width == pytest.approx(440 * panes, abs=2) and picture.n_frames == 1


@pytest.mark.parametrize(
    ("make", "draw", "count"),
    [
        (small.trajectory, small.trajectory_inputs, 2),  # state; velocity with its band
        (small.stations, small.station_inputs, 4),  # one fan per station, history within
        (small.terrain, small.terrain_inputs, 7),  # elevation, rain; maximum and its width, three depths
    ],
)
def test_every_field_has_its_panels(make, draw, count):
    surrogate, inputs = make(), draw()
    assert len(sheet_of(surrogate, inputs).panels()) == count
    assert opened(png.encode_answer(surrogate, inputs, surrogate.predict(inputs))).n_frames == 1


@pytest.mark.parametrize(
    ("make", "draw", "frames", "width"),
    [
        (small.trajectory, small.trajectory_inputs, 11, 440),
        (small.terrain, small.terrain_inputs, 3, 880),
        (small.stations, small.station_inputs, 1, 1760),
    ],
)
def test_forecast_has_a_frame_per_lead_time_or_is_a_fan(make, draw, frames, width):
    picture = film(make(), draw())
    assert picture.n_frames == frames
    assert picture.width == pytest.approx(width, abs=2)


def test_frames_differ_only_where_the_answer_does():
    picture = film(small.terrain(), small.terrain_inputs())
    first = np.asarray(picture.convert("RGB"), dtype=int)
    picture.seek(2)
    last = np.asarray(picture.convert("RGB"), dtype=int)
    changed = np.abs(first - last).sum(axis=2) > 0
    assert changed.any()
    assert not changed[:, :20].any()  # the left edge holds axis labels, which limits that move would change


@pytest.mark.parametrize(
    ("make", "draw"), [(small.stations, small.station_inputs), (small.terrain, small.terrain_inputs)]
)
def test_outside_the_domain_there_is_a_picture_without_bands(make, draw):
    surrogate, inputs = make(), draw()
    first = next(iter(inputs))
    inputs[first] = inputs[first] + small.OUTSIDE
    assert sheet_of(surrogate, inputs).ends(surrogate.manifest.outputs[0], None) is None
    assert "OUT OF DOMAIN" in sheet_of(surrogate, inputs).caption(())
    film(surrogate, inputs)
    opened(png.encode_answer(surrogate, inputs, surrogate.predict(inputs)))


def test_x_goes_to_the_right_whichever_axis_it_is():
    x, y = Axis("x", "m", 3, 0.0, 2.0), Axis("y", "m", 2, 0.0, 1.0)
    values = np.arange(6.0)
    by_rows, by_columns = (
        panels.upright((y, x), values.reshape(2, 3)),
        panels.upright((x, y), values.reshape(2, 3).T),
    )
    assert by_rows.across == by_columns.across == x
    np.testing.assert_array_equal(by_rows.values, by_columns.values)


def test_dry_cells_are_not_drawn():
    shown = panels.wet(np.array([0.0, 0.049, 0.051]))
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), [True, True, False])


def test_history_ends_where_the_forecast_starts():
    surrogate, inputs = small.stations(), small.station_inputs()
    sheet = sheet_of(surrogate, inputs)
    times, values = sheet.past(surrogate.manifest.outputs[0])
    assert times[-1] == np.datetime64("2025-11-24T16:00") and values.shape == (5, 4)
    assert sheet.times[0] - times[-1] == np.timedelta64(1, "h")
    assert sheet.moment(0) == "t = 1 h, valid 2025-11-24 17:00 UTC"


def test_quantiles_asked_for_do_not_change_the_fan():
    question = Question(quantiles=(0.1, 0.9))
    plain, asked = (film(small.stations(), small.station_inputs(), q) for q in (Question(), question))
    np.testing.assert_array_equal(np.asarray(plain), np.asarray(asked))


def test_explanations_are_drawn_when_png_is_asked_for(client):
    body = client.get("/v1/models/burgers/example").json()
    body |= {"quantity": {"type": "region_mean", "x": [0.25, 0.5]}, "method": "occlusion"}
    answer = client.post("/v1/models/burgers/explain", json=body, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    assert opened(answer.content).width == pytest.approx(440 * 4, abs=2)  # answer, input, attribution, regions

"""Tables and lists of corresponding points that guide a registration."""

import json

import numpy as np
import pytest
from carlreg.errors import InputError
from carlreg.io.guide_points import GuidePoints, read_guide

FIXED = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.5]])


def markups(path, points, names, space="LPS"):
    signs = np.array([-1, -1, 1]) if space == "RAS" else 1
    controls = [
        {"label": name, "position": (point * signs).tolist(), "positionStatus": "defined"}
        for name, point in zip(names, points, strict=True)
    ]
    entry = {"type": "Fiducial", "coordinateSystem": space, "controlPoints": controls}
    path.write_text(json.dumps({"markups": [entry]}))
    return path


def fcsv(path, points, names):
    lines = ["# Markups fiducial file version = 4.11", "# CoordinateSystem = RAS"]
    lines += [
        f"{n},{-p[0]},{-p[1]},{p[2]},0,0,0,1,1,1,0,{name},,"
        for n, (p, name) in enumerate(zip(points, names, strict=True))
    ]
    path.write_text("\n".join(lines))
    return path


def test_a_table_comes_back_as_it_was_written(tmp_path):
    on = np.array([True, False, True])
    (tmp_path / "guide.csv").write_text(GuidePoints(FIXED, FIXED + 1, ("a", "b", "carina, left"), on).text())
    found = read_guide(tmp_path / "guide.csv")
    np.testing.assert_array_equal(found.fixed_lps, FIXED)
    np.testing.assert_array_equal(found.moving_lps, FIXED + 1)
    assert found.names == ("a", "b", "carina, left") and found.on.tolist() == on.tolist()
    assert [len(part) for part in found.used] == [2, 2, 2] and found.used[2] == ("a", "carina, left")


def test_a_plain_table_of_pairs_has_numbers_for_names(tmp_path):
    (tmp_path / "p.csv").write_text("fixed_x;fixed_y;fixed_z;moving_x;moving_y;moving_z\n1;2;3;4;5;6\n")
    found = read_guide(tmp_path / "p.csv")
    assert found.names == ("1",) and found.on.all()


def test_lists_go_together_by_name_else_by_order(tmp_path):
    one = markups(tmp_path / "f.mrk.json", FIXED, "abc", "RAS")
    other = fcsv(tmp_path / "m.fcsv", FIXED[::-1] + 1, "cba")
    np.testing.assert_allclose(read_guide(one, other).moving_lps, FIXED + 1)
    np.testing.assert_allclose(read_guide(one, other).fixed_lps, FIXED)
    other = fcsv(tmp_path / "m.fcsv", FIXED + 1, ["M-1", "M-2", "M-3"])
    np.testing.assert_allclose(read_guide(one, other).moving_lps, FIXED + 1)


def test_lists_that_do_not_go_together_are_refused_by_name(tmp_path):
    one = markups(tmp_path / "f.mrk.json", FIXED, ["apex", "carina", "hilum"])
    other = markups(tmp_path / "m.mrk.json", FIXED[:2], ["apex", "carina"])
    with pytest.raises(InputError, match=r"as many fixed as moving points, got 3 .* and 2 .*without a partner: hilum"):
        read_guide(one, other)
    with pytest.raises(InputError, match="expected a CSV file of pairs, or two lists"):
        read_guide(one)
    (tmp_path / "on.csv").write_text("fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z,on\n1,2,3,4,5,6,maybe\n")
    with pytest.raises(InputError, match="column on: expected 1 or 0, got 'maybe'"):
        read_guide(tmp_path / "on.csv")

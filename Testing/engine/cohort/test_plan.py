"""What a plan may say, which names pairs get, and that all missing files are named before anything runs."""

from __future__ import annotations

import pytest
from carlreg.cohort import read_plan, to_one_fixed
from carlreg.cohort.bids import entities_of, from_bids
from carlreg.errors import InputError


@pytest.fixture
def scans(tmp_path):
    """Empty files: a plan only asks whether they are there."""
    for name in ("atlas.nii.gz", "a/scan.nii.gz", "b/scan.nii.gz", "b/mask.nii.gz", "c d.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def plan(folder, text):
    (folder / "plan.csv").write_text(text, encoding="utf-8")
    return read_plan(folder / "plan.csv")


def test_paths_are_relative_to_the_plan_and_empty_cells_are_nothing(scans):
    pairs = plan(
        scans, "Fixed;moving;moving_mask\natlas.nii.gz;a/scan.nii.gz;\natlas.nii.gz;b/scan.nii.gz;b/mask.nii.gz\n"
    )
    assert [pair.name for pair in pairs] == ["a_scan", "b_scan"]  # the files' own name is not one
    assert pairs[0].files == {"fixed": str(scans / "atlas.nii.gz"), "moving": str(scans / "a/scan.nii.gz")}
    assert pairs[1].files["moving_mask"] == str(scans / "b/mask.nii.gz")


def test_names_become_folders(scans):
    assert plan(scans, "fixed,moving\natlas.nii.gz,c d.nrrd\n")[0].name == "c_d"
    numbered = plan(scans, "fixed,moving\n" + "atlas.nii.gz,a/scan.nii.gz\n" * 2)
    assert [pair.name for pair in numbered] == ["pair_1", "pair_2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["columns fixed and moving", "nothing"]),
        ("fixed,moveing\n", ["moveing"]),
        ("fixed,moving,fixed\n", ["there twice"]),
        ("fixed,moving\n", ["at least one pair"]),
        ("fixed,moving\natlas.nii.gz,\n", ["line 2", "no moving"]),
        ("fixed,moving\natlas.nii.gz,a/scan.nii.gz,x\n", ["line 2", "3 columns"]),
        ("name,fixed,moving\n../x,atlas.nii.gz,a/scan.nii.gz\n", ["../x", "letters"]),
        ("name,fixed,moving\nx,atlas.nii.gz,a/scan.nii.gz\nX,atlas.nii.gz,b/scan.nii.gz\n", ["of its own", "x"]),
        ("fixed,moving\nno.nii,a/scan.nii.gz\natlas.nii.gz,none.nii\n", ["2 files are missing", "no.nii", "none.nii"]),
    ],
)
def test_bad_plans_say_what_is_wrong(scans, text, words):
    with pytest.raises(InputError) as error:
        plan(scans, text)
    assert all(word in str(error.value) for word in words), error.value


def test_patterns_leave_the_fixed_image_out(scans):
    pairs = to_one_fixed(str(scans / "a/scan.nii.gz"), [str(scans / "*/scan.nii.gz")])
    assert [pair.files["moving"] for pair in pairs] == [str(scans / "b/scan.nii.gz")]
    with pytest.raises(InputError, match="found none"):
        to_one_fixed(str(scans / "atlas.nii.gz"), [str(scans / "*.mha")])


def test_bids(tmp_path):
    for name in (
        *(
            "sub-01/ses-1/anat/sub-01_ses-1_T1w",
            "sub-01/ses-2/anat/sub-01_ses-2_T1w",
            "sub-01/ses-2/anat/sub-01_ses-2_T2w",
        ),
        *("sub-02/anat/sub-02_T1w", "derivatives/x/sub-02/anat/sub-02_T1w", "template_T1w"),
    ):
        file = tmp_path / f"{name}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert entities_of("sub-01_ses-2_T1w.nii.gz") == {"sub": "01", "ses": "2", "suffix": "T1w"}
    onto = from_bids(str(tmp_path), "T1w", "template", str(tmp_path / "template_T1w.nii.gz"))
    assert [pair.name for pair in onto] == ["sub-01_ses-1_T1w", "sub-01_ses-2_T1w", "sub-02_T1w"]
    (later,) = from_bids(str(tmp_path), "T1w", "session")
    assert (later.files["fixed"], later.name) == (
        str(tmp_path / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"),
        "sub-01_ses-2_T1w",
    )
    for session in ("10", "9"):
        file = tmp_path / f"sub-03/ses-{session}/anat/sub-03_ses-{session}_T1w.nii.gz"
        file.parent.mkdir(parents=True)
        file.touch()
    last = from_bids(str(tmp_path), "T1w", "session")[-1]
    assert (last.name, "ses-9_" in last.files["fixed"]) == ("sub-03_ses-10_T1w", True)
    with pytest.raises(InputError, match="FLAIR"):
        from_bids(str(tmp_path), "FLAIR", "session")
    with pytest.raises(InputError, match="--fixed TEMPLATE"):
        from_bids(str(tmp_path), "T1w", "template")

"""The choices of the Transforms section."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..common.choices import Choice


class ExportFormat(Choice):
    """The names of carlreg's formats."""

    ITK = "itk"
    TFM = "tfm"
    NIFTI = "nifti"
    NRRD = "nrrd"
    MHA = "mha"
    ANTS = "ants"
    ELASTIX = "elastix"
    FSL = "fsl"
    FLIRT = "flirt"
    FREESURFER = "freesurfer"
    SLICER = "slicer"

    def label(self) -> str:
        return {
            ExportFormat.ITK: _("ITK transform (.h5)"),
            ExportFormat.TFM: _("ITK linear transform (.tfm)"),
            ExportFormat.NIFTI: _("Displacement field (.nii.gz)"),
            ExportFormat.NRRD: _("Displacement field (.nrrd)"),
            ExportFormat.MHA: _("Displacement field (.mha)"),
            ExportFormat.ANTS: _("ANTs warp and affine (.nii.gz, .mat)"),
            ExportFormat.ELASTIX: _("elastix parameters and field (.txt)"),
            ExportFormat.FSL: _("FSL warp (.nii.gz)"),
            ExportFormat.FLIRT: _("FSL FLIRT matrix (.mat)"),
            ExportFormat.FREESURFER: _("FreeSurfer linear transform (.lta)"),
            ExportFormat.SLICER: _("Slicer scene with both volumes (.mrb)"),
        }[self]

    def text(self) -> str:
        """What is in the file, and which programs read it."""
        return {
            ExportFormat.ITK: _(
                "An affine after a displacement field, exactly as it is. Read by ITK, SimpleITK, ANTs, 3D Slicer."
            ),
            ExportFormat.TFM: _(
                "A matrix as text, of linear transforms only. Read by ITK, SimpleITK, ANTs, 3D Slicer."
            ),
            ExportFormat.NIFTI: _(
                "One field, 5-D NIfTI with intent 1006. Read by ITK, SimpleITK, ANTs, Greedy, 3D Slicer."
            ),
            ExportFormat.NRRD: _("One field, a vector image in LPS. Read by ITK, SimpleITK, ANTs, 3D Slicer."),
            ExportFormat.MHA: _("One field, a vector image in LPS. Read by ITK, SimpleITK, ANTs, 3D Slicer."),
            ExportFormat.ANTS: _(
                "NAME1Warp.nii.gz (5-D NIfTI, intent 1007) and NAME0GenericAffine.mat. Read by ANTs; flattened to one "
                "file, by Greedy and nitransforms, too."
            ),
            ExportFormat.ELASTIX: _("A parameter file and the files that it names. Read by transformix."),
            ExportFormat.FSL: _(
                "Relative displacements on the fixed volume's grid. Read by applywarp and nitransforms."
            ),
            ExportFormat.FLIRT: _("A matrix, of linear transforms only. Read by FSL (flirt, applywarp)."),
            ExportFormat.FREESURFER: _(
                "Linear transforms only. Read by mri_vol2vol and nitransforms. For a warp, save a .nii.gz field and "
                "run mri_warp_convert --initk FIELD --outm3z WARP."
            ),
            ExportFormat.SLICER: _("The transform, and both volumes where they are chosen. Opened by 3D Slicer."),
        }[self]


class Which(Choice):
    """Which way an exported file leads."""

    FORWARD = "forward"
    INVERSE = "inverse"
    WITH_INITIAL = "with-initial"

    def label(self) -> str:
        return {
            Which.FORWARD: _("Forward (moving onto fixed)"),
            Which.INVERSE: _("Inverse (fixed onto moving)"),
            Which.WITH_INITIAL: _("Forward after initial transform"),
        }[self]


class Precision(Choice):
    AUTO = "auto"
    FLOAT32 = "float32"
    FLOAT64 = "float64"

    def label(self) -> str:
        return {
            Precision.AUTO: _("As usual for the format"),
            Precision.FLOAT32: _("float32"),
            Precision.FLOAT64: _("float64 (twice as large)"),
        }[self]


class Convention(Choice):
    """What the numbers of a file mean, where it does not tell."""

    FILE = "file"
    LPS = "lps"
    RAS = "ras"
    FSL = "fsl"
    FSL_ABSOLUTE = "fsl-absolute"

    def label(self) -> str:
        return {
            Convention.FILE: _("As the file says"),
            Convention.LPS: _("LPS mm (ITK, ANTs, elastix, AFNI)"),
            Convention.RAS: _("RAS mm (3D Slicer, nibabel, FreeSurfer)"),
            Convention.FSL: _("FSL (FLIRT matrix, relative warp)"),
            Convention.FSL_ABSOLUTE: _("FSL, absolute warp"),
        }[self]


class Direction(Choice):
    """Which way a file leads, where it does not tell."""

    FILE = "file"
    FORWARD = "forward"
    INVERSE = "inverse"

    def label(self) -> str:
        return {
            Direction.FILE: _("As the file says, or ask"),
            Direction.FORWARD: _("Fixed to moving points (usual)"),
            Direction.INVERSE: _("Moving to fixed points"),
        }[self]


class LinearKind(Choice):
    RIGID = "rigid"
    SIMILARITY = "similarity"
    AFFINE = "affine"

    def label(self) -> str:
        return {
            LinearKind.RIGID: _("Rigid"),
            LinearKind.SIMILARITY: _("Similarity (rigid and one scale)"),
            LinearKind.AFFINE: _("Affine"),
        }[self]


__all__ = ["Convention", "Direction", "ExportFormat", "LinearKind", "Precision", "Which"]

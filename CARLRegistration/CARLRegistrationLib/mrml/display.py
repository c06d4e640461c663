"""How nodes look: window, level and colors taken over from another node."""

from __future__ import annotations


def windowLevel(node) -> tuple[float, float]:
    """As a volume is shown; the range of its values where that is not known."""
    display = node.GetDisplayNode()
    if display is not None and display.IsA("vtkMRMLScalarVolumeDisplayNode") and display.GetWindow() > 0:
        return display.GetWindow(), display.GetLevel()
    low, high = node.GetImageData().GetScalarRange()
    return max(high - low, 1e-6), 0.5 * (low + high)


def copyDisplay(source, target, interpolation: bool = False) -> None:
    """Give a volume the window, level and colors of another; interpolation: also whether voxels are seen as blocks."""
    one, other = source.GetDisplayNode(), target.GetDisplayNode()
    if other is None:
        return
    other.SetAutoWindowLevel(False)
    other.SetWindowLevel(*windowLevel(source))
    if one is not None and one.IsA("vtkMRMLScalarVolumeDisplayNode"):
        if interpolation:
            other.SetInterpolate(one.GetInterpolate())
        if one.GetColorNodeID():
            other.SetAndObserveColorNodeID(one.GetColorNodeID())


def showLike(made, source) -> None:
    """Colors, window, level, glyphs of another node of the same kind."""
    made.CreateDefaultDisplayNodes()
    one = source.GetDisplayNode() if source is not None and source.IsA("vtkMRMLDisplayableNode") else None
    other = made.GetDisplayNode()
    if one is None or other is None or one.GetClassName() != other.GetClassName():
        return
    other.CopyContent(one, True)
    if one.GetColorNodeID():
        other.SetAndObserveColorNodeID(one.GetColorNodeID())

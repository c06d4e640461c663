"""``slicer.app.layoutManager()``: the slice views, rendered off screen."""

import slicer

from .signals import HostSignal, SignalOwner, emit
from .strict import Strict


class SliceView(Strict):
    """A slice view of the layout: qMRMLSliceView and qMRMLSliceWidget (Libs/MRML/Widgets)."""

    def __init__(self, view):
        self._view = view

    def mrmlSliceNode(self):
        return self._view.get_view_node()

    def renderWindow(self):
        return self._view.render_window()

    def forceRender(self):
        self._view.render()

    def scheduleRender(self):
        self._view.schedule_render()


class SliceController(Strict):
    """qMRMLSliceControllerWidget (Libs/MRML/Widgets/qMRMLSliceControllerWidget.h)."""

    def __init__(self, view):
        self._view = view

    def fitSliceToBackground(self):
        self._view.fit_view_to_content()

    def setSliceOffsetValue(self, offset):
        self._view.set_slice_value(offset)

    def mrmlSliceNode(self):
        return self._view.get_view_node()


class SliceWidget(Strict):
    """qMRMLSliceWidget (Libs/MRML/Widgets/qMRMLSliceWidget.h)."""

    def __init__(self, view):
        self._view = view

    def sliceLogic(self):
        return self._view._logic

    def mrmlSliceNode(self):
        return self._view.get_view_node()

    def mrmlSliceCompositeNode(self):
        return self._view._logic.GetSliceCompositeNode()

    def sliceView(self):
        return SliceView(self._view)

    def sliceController(self):
        return SliceController(self._view)

    def fitSliceToBackground(self):
        self._view.fit_view_to_content()


class LayoutManager(Strict, SignalOwner):
    """qSlicerLayoutManager (Base/QTGUI/qSlicerLayoutManager.h, Libs/MRML/Widgets/qMRMLLayoutManager.h).

    It shows the slice views Red, Yellow and Green; there is no 3D view. The slice nodes and their composite nodes are
    in the scene from the start, as in Slicer; the views that render them are made when first asked for.
    """

    layoutChanged = HostSignal("layoutChanged(int)")

    def __init__(self, slicer_app):
        self._slicer_app = slicer_app
        self._views = {}
        node_class = slicer.vtkMRMLLayoutNode
        self._known_layouts = {
            node_class.SlicerLayoutConventionalView,
            node_class.SlicerLayoutFourUpView,
            node_class.SlicerLayoutOneUpRedSliceView,
            node_class.SlicerLayoutOneUpYellowSliceView,
            node_class.SlicerLayoutOneUpGreenSliceView,
            node_class.SlicerLayoutSideBySideView,  # Red and Yellow
            node_class.SlicerLayoutFourUpPlotTableView,  # with a plot and a table view, which this host does not draw
        }
        self._layout = node_class.SlicerLayoutFourUpView
        self._slice_nodes = {}
        for name, orientation in zip(self.sliceViewNames(), ("Axial", "Sagittal", "Coronal"), strict=True):
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLScene(slicer_app.scene)
            self._slice_nodes[name] = logic.AddSliceNode(name)
            self._slice_nodes[name].SetOrientation(orientation)
            logic.SetMRMLScene(None)

    @property
    def layout(self):
        return self._layout

    def setLayout(self, layout):
        if layout not in self._known_layouts:
            raise NotImplementedError(f"this host does not have the layout {layout}")
        if layout != self._layout:
            self._layout = layout
            emit(self, "layoutChanged(int)", layout)

    threeDViewCount = property(lambda self: 0)
    tableViewCount = property(lambda self: 0)
    plotViewCount = property(lambda self: 0)

    def sliceViewNames(self):
        return ("Red", "Yellow", "Green")

    def sliceWidget(self, name):
        """None for an unknown name, as in Slicer."""
        return SliceWidget(self.view(name)) if name in self.sliceViewNames() else None

    def mrmlSliceLogics(self):
        self.view("Red")
        return self._slicer_app.app_logic.GetSliceLogics()

    def resetSliceViews(self):
        for name in self.sliceViewNames():
            self.view(name).fit_view_to_content()

    def view(self, name):
        """For the host: the trame-slicer view of that name; all three are made together, as in Slicer."""
        if not self._views:
            from trame_slicer.views import ViewLayoutDefinition

            manager = self._slicer_app.view_manager
            manager.register_factory(_view_factory(self._slice_nodes))
            for make in ("axial_view", "sagittal_view", "coronal_view"):
                definition = getattr(ViewLayoutDefinition, make)()
                self._views[definition.singleton_tag] = manager.create_view(definition)
            manager.set_current_view_ids(list(self._views))
            for view in self._views.values():
                view.set_render_blocked(True)  # rendered when a picture is asked for
        return self._views[name]


def _view_factory(slice_nodes):
    """Offscreen slice views for slice nodes that are in the scene already."""
    from trame_slicer.views import DirectViewFactory, SliceView
    from trame_slicer.views.abstract_view import AbstractView

    class HostSliceView(SliceView):
        def set_scene(self, scene):
            AbstractView.set_scene(self, scene)
            self._logic.SetMRMLScene(scene)
            self._logic.SetSliceNode(slice_nodes[self.name])
            self.set_view_node(slice_nodes[self.name])

    class HostViewFactory(DirectViewFactory):
        def _create_slice_view(self, app_logic, scene, view):
            made = HostSliceView(scene, app_logic, view.singleton_tag)
            made.render_window().SetSize(512, 512)
            made.set_render_blocked(True)
            return self._update_view_properties(made, view)

    return HostViewFactory(do_render_offscreen=True)

"""``slicer.app.layoutManager()``: the slice views, rendered off screen."""

import slicer
import vtk

from .pythonqt import qt
from .signals import HostSignal, SignalOwner, emit
from .slice_lists import SliceLists
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
    in the scene from the start, as in Slicer; the views that render them are made when first asked for. The layout is
    kept by the scene's vtkMRMLLayoutNode. As in Slicer, a view has its new size only after events were handled: Qt's
    layouts resize widgets later, and qMRMLSliceWidget then calls vtkMRMLSliceLogic::ResizeSliceNode.
    """

    layoutChanged = HostSignal("layoutChanged(int)")

    def __init__(self, slicer_app):
        self._slicer_app = slicer_app
        self._views = {}
        self._lists = {}  # selectors of the volumes that a view shows
        kind = slicer.vtkMRMLLayoutNode
        slice_views = dict.fromkeys(self.sliceViewNames(), (0.5, 0.5))
        # Width and height of each shown view, as shares of the whole.
        self._known_layouts = {
            kind.SlicerLayoutConventionalView: dict.fromkeys(self.sliceViewNames(), (1 / 3, 0.5)),
            kind.SlicerLayoutFourUpView: slice_views,
            kind.SlicerLayoutOneUpRedSliceView: {"Red": (1.0, 1.0)},
            kind.SlicerLayoutOneUpYellowSliceView: {"Yellow": (1.0, 1.0)},
            kind.SlicerLayoutOneUpGreenSliceView: {"Green": (1.0, 1.0)},
            kind.SlicerLayoutSideBySideView: {"Red": (0.5, 1.0), "Yellow": (0.5, 1.0)},
            # With a plot and a table view, which this host does not draw.
            kind.SlicerLayoutFourUpPlotTableView: {"Red": (0.5, 0.5)},
        }
        self._shares = dict(slice_views)
        self._whole = dict.fromkeys(self.sliceViewNames(), (1024, 1024))  # what a view would have alone, in pixels
        self._slice_nodes = {}
        for name, orientation in zip(self.sliceViewNames(), ("Axial", "Sagittal", "Coronal"), strict=True):
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLScene(slicer_app.scene)
            self._slice_nodes[name] = logic.AddSliceNode(name)
            self._slice_nodes[name].SetOrientation(orientation)
            logic.SetMRMLScene(None)
        node = kind()
        node.SetSingletonTag("vtkMRMLLayoutNode")
        self._node = slicer_app.scene.AddNode(node)
        for layout in self._known_layouts:
            self._node.AddLayoutDescription(layout, f'<layout type="vertical" name="{layout}"/>')
        self._last_valid = kind.SlicerLayoutFourUpView
        self._node.SetViewArrangement(self._last_valid)
        self._shown = self._described()
        self._node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._on_node())
        slicer_app.scene.AddObserver(slicer_app.scene.EndBatchProcessEvent, lambda caller, event: self._on_node())

    # --- the layout

    @property
    def layout(self):
        return self._node.GetViewArrangement()

    def setLayout(self, layout):
        if layout not in self._known_layouts:
            raise NotImplementedError(f"this host does not have the layout {layout}")
        if layout != self.layout:
            self._node.RemoveAllMaximizedViewNodes()
            self._node.SetViewArrangement(layout)

    def addMaximizedViewNode(self, node):
        self._node.AddMaximizedViewNode(node)

    def _described(self):
        count = self._node.GetNumberOfMaximizedViewNodes()
        return self.layout, tuple(self._node.GetMaximizedViewNode(n).GetLayoutName() for n in range(count))

    def _on_node(self):
        """The layout node says what is shown; after a scene was closed, what was shown before."""
        if self._slicer_app.scene.IsBatchProcessing():
            return
        if self.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutNone:
            self._node.SetViewArrangement(self._last_valid)  # comes back here
            return
        if self._described() == self._shown:
            return
        self._last_valid = self.layout
        self._shown = self._described()
        # Two turns of the event loop: Qt activates the outer layout first, and then the inner one.
        qt.QTimer.singleShot(0, lambda: qt.QTimer.singleShot(0, self._resize))
        emit(self, "layoutChanged(int)", self.layout)

    def lists(self, name):
        """For the host: the selectors of a view's volumes."""
        self.view(name)
        return self._lists[name]

    def shown_shares(self):
        """For the host: name of each shown view and its share of the whole width and height."""
        layout, maximized = self._shown
        return dict.fromkeys(maximized, (1.0, 1.0)) or self._known_layouts[layout]

    def _resize(self):
        self._shares.update(self.shown_shares())
        if self._views:
            for name in self.shown_shares():
                self.resize(name, self.size_in_layout(name))

    def size_in_layout(self, name):
        """For the host: width and height of a view in pixels, as the layout gives it (or gave, for a hidden one)."""
        return tuple(round(n * share) for n, share in zip(self._whole[name], self._shares[name], strict=True))

    def set_size(self, name, size):
        """For the host: as when the window is resized until the view has this size."""
        self._shares.update(self.shown_shares())
        self._whole[name] = tuple(n / share for n, share in zip(size, self._shares[name], strict=True))
        self.resize(name, size)

    def resize(self, name, size):
        """For the host: the view's widget is resized (qMRMLSliceWidgetPrivate::setSliceViewSize)."""
        self.view(name).render_window().SetSize(*size)
        if tuple(self._slice_nodes[name].GetDimensions()[:2]) != tuple(size):
            self.view(name)._logic.ResizeSliceNode(*size)

    threeDViewCount = property(lambda self: 0)
    tableViewCount = property(lambda self: 0)
    plotViewCount = property(lambda self: 0)

    # --- the views

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
            for name, view in self._views.items():
                self._lists[name] = SliceLists(self._slicer_app.scene, view._logic.GetSliceCompositeNode())
                self.resize(name, self.size_in_layout(name))
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

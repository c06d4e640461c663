// The report's interactive viewer: NiiVue with the fixed image below and one layer on top.
"use strict";
(async function () {
  const byId = (id) => document.getElementById(id);
  const text = byId("viewer-text");
  const data = JSON.parse(byId("viewer-data").textContent);
  const canvas = byId("viewer-canvas");
  if (!document.createElement("canvas").getContext("webgl2")) {
    text.textContent = "This browser has no WebGL 2, which the viewer needs. The pictures below show the same.";
    return;
  }
  try {
    const nv = new niivue.Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [1, 0.85, 0.3, 0.7],
      crosshairWidth: 0.5,
      crosshairWidthUnit: "mm",
      sagittalNoseLeft: true,
      multiplanarPadPixels: 6,
      isRadiologicalConvention: true,
      isColorbar: false,
      show3Dcrosshair: true,
      dragAndDropEnabled: false,
      loadingText: "",
      logLevel: "error",
      multiplanarShowRender: niivue.SHOW_RENDER.NEVER,
    });
    await nv.attachToCanvas(canvas);
    for (const [name, map] of Object.entries(data.colors)) nv.addColormap(name, map);
    for (const layer of data.layers) {
      const image = await niivue.NVImage.loadFromBase64({
        base64: layer.nifti, name: layer.key + ".nii.gz", colormap: layer.colors, opacity: layer.key === "fixed" ? 1 : 0,
        cal_min: layer.low, cal_max: layer.high,
      });
      image.cal_min = layer.low;
      image.cal_max = layer.high;
      nv.addVolume(image);
      layer.nifti = null;
    }
    let shown = data.layers.length > 1 ? data.layers[1].key : "fixed";
    const slider = byId("viewer-opacity");

    function update() {
      const opacity = Number(slider.value) / 100;
      data.layers.forEach((layer, n) => {
        if (n > 0) nv.volumes[n].opacity = layer.key === shown ? opacity : 0;
      });
      nv.updateGLVolume();
      byId("viewer-percent").textContent = slider.value + " %";
      document.querySelectorAll("[data-legend]").forEach((each) => {
        each.hidden = each.dataset.legend !== shown;
      });
    }

    document.querySelectorAll("input[name=viewer-layer]").forEach((radio) => {
      radio.checked = radio.value === shown;
      radio.addEventListener("change", () => {
        shown = radio.value;
        update();
      });
    });
    slider.addEventListener("input", update);
    const kinds = { all: "MULTIPLANAR", axial: "AXIAL", coronal: "CORONAL", sagittal: "SAGITTAL" };
    byId("viewer-planes").addEventListener("change", (event) => nv.setSliceType(niivue.SLICE_TYPE[kinds[event.target.value]]));
    let timer = null;
    byId("viewer-flicker").addEventListener("click", (event) => {
      if (timer) {
        clearInterval(timer);
        timer = null;
      } else {
        timer = setInterval(() => {
          slider.value = Number(slider.value) > 50 ? 0 : 100;
          update();
        }, 500);
      }
      event.target.textContent = timer ? "Stop flicker" : "Flicker";
    });
    nv.onLocationChange = (location) => {
      const mm = location.mm;
      const place = "L " + (-mm[0]).toFixed(0) + ", P " + (-mm[1]).toFixed(0) + ", S " + mm[2].toFixed(0) + " mm";
      const values = data.layers.map((layer, n) => {
        const value = location.values[n] ? location.values[n].value : NaN;
        let shownValue = value.toFixed(layer.digits);
        if (layer.key === "jacobian") shownValue = value < layer.low + 1e-3 ? "fold" : (2 ** value).toFixed(2);
        if (layer.key === "uncertainty" && value < 0) shownValue = "unknown";
        return layer.name + " " + shownValue + (shownValue === "unknown" || !layer.unit ? "" : " " + layer.unit);
      });
      text.textContent = place + "   ·   " + values.join("   ·   ");
    };
    nv.setSliceType(niivue.SLICE_TYPE.MULTIPLANAR);
    nv.scene.crosshairPos = nv.mm2frac(data.center_ras);
    update();
    nv.createOnLocationChange();
    document.documentElement.dataset.viewer = "ready";
    window.carlregViewer = nv;
  } catch (error) {
    text.textContent = "The viewer could not start (" + error.message + "). The pictures below show the same.";
    document.documentElement.dataset.viewer = "failed";
  }
})();

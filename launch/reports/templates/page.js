"use strict";
const boxes = [...document.querySelectorAll("[data-run]")];
const coarse = window.matchMedia("(pointer: coarse)").matches;

function start(panel) {
  const plot = document.getElementById(panel.key);
  const controls = [...document.querySelectorAll(`[data-panel="${panel.key}"]`)];
  const jump = document.querySelector(`[data-jump="${panel.key}"]`);
  // A finger that drags scrolls the page.
  if (coarse) panel.layout.dragmode = false;
  Plotly.newPlot(plot, panel.data, panel.layout, {
    responsive: true,
    displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d"],
    toImageButtonOptions: { filename: panel.key, scale: 2 },
  });

  function show() {
    const traces = {};
    const layout = { "xaxis.autorange": true, "yaxis.autorange": true };
    for (const control of controls) {
      const option = panel.controls[control.dataset.control][control.value];
      Object.assign(traces, option.traces);
      Object.assign(layout, option.layout);
      const said = control.parentElement.querySelector("output");
      if (said) {
        said.textContent = option.label;
        control.setAttribute("aria-valuetext", option.label);
      }
    }
    traces.visible = panel.data.map((trace, place) => {
      const box = boxes[trace.meta];
      return (!box || box.checked) && (!traces.visible || traces.visible[place]);
    });
    Plotly.update(plot, traces, layout);
  }

  for (const control of [...controls, ...boxes]) control.addEventListener("input", show);
  if (jump) {
    jump.addEventListener("input", () => {
      const choice = panel.jumps[jump.value] || {};
      for (const [place, option] of Object.entries(choice)) controls[place].value = option;
      show();
    });
  }
  show();
}

JSON.parse(document.getElementById("figures").textContent).panels.forEach(start);

(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const records = document.getElementById("records");
  // A record may lie in the folded part of the page: it is unfolded before one is led to it.
  const lead = (name) => {
    const row = document.getElementById(name);
    if (!row) return;
    if (records && records.contains(row)) records.open = true;
    if (location.hash === "#" + name) row.scrollIntoView({ block: "center" });
    else location.hash = name;
  };
  const draw = (name, figure) => {
    const chart = document.getElementById("chart-" + name);
    if (!chart) return;
    const narrow = () => chart.clientWidth < 600;
    const layout = () => {
      const shown = structuredClone(figure.layout);
      if (!narrow()) return shown;
      shown.margin = { ...shown.margin, l: 48, r: 4 };
      shown.font.size = 11;
      for (const axis of ["xaxis", "yaxis", "yaxis2"]) if (shown[axis]) shown[axis].nticks = 5;
      return shown;
    };
    const plot = () => Plotly.react(chart, figure.data, layout(), { displayModeBar: false, responsive: true });
    plot();
    chart.on("plotly_click", (event) => {
      const found = event.points.find((point) => point.customdata);
      if (found) lead(found.customdata);
    });
    let was = narrow();
    new ResizeObserver(() => { if (narrow() !== was) { was = narrow(); plot(); } }).observe(chart);
    addEventListener("beforeprint", () => Plotly.relayout(chart, { width: Math.min(chart.clientWidth, 980) }));
    addEventListener("afterprint", () => Plotly.relayout(chart, { width: null, autosize: true }));
  };
  for (const [name, figure] of Object.entries(figures)) draw(name, figure);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link) lead(link.getAttribute("href").slice(1));
  });
  if (location.hash) lead(location.hash.slice(1));
})();

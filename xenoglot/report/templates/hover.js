for (const chart of document.querySelectorAll(".chart")) {
  const data = JSON.parse(chart.querySelector("script").textContent);
  const [picture, tip, cross] = [chart.querySelector("svg"), chart.querySelector(".tip"), chart.querySelector(".cross")];
  const nearest = (points, x) => points.reduce((best, point) => Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best);
  const hide = () => { tip.hidden = true; cross.setAttribute("d", ""); };
  const show = (event) => {
    const box = picture.getBoundingClientRect();
    const x = (event.clientX - box.left) * data.width / box.width;
    const found = data.curves.map((curve) => ({curve, point: nearest(curve.points, x)}));
    const closest = found.reduce((best, each) => Math.abs(each.point[0] - x) < Math.abs(best.point[0] - x) ? each : best);
    const at = closest.point[0];
    const heading = document.createElement("b");
    heading.textContent = `${closest.point[2]} ${data.x_label}`;
    const lines = found.filter((each) => Math.abs(each.point[0] - at) < data.width / 40).reverse().map(({curve, point}) => {
      const line = document.createElement("div");
      const swatch = document.createElement("i");
      swatch.className = "swatch";
      swatch.style.background = curve.colour;
      line.append(swatch, `${point[3]} ${data.curves.length > 1 ? curve.label : ""}`);
      return line;
    });
    tip.replaceChildren(heading, ...lines);
    tip.hidden = false;
    cross.setAttribute("d", `M${at} ${data.top}V${data.bottom}`);
    const left = at * box.width / data.width;
    tip.style.left = `${left + 14 + tip.offsetWidth < box.width ? left + 14 : Math.max(0, left - 14 - tip.offsetWidth)}px`;
  };
  const area = chart.querySelector(".area");
  area.addEventListener("pointermove", show);
  area.addEventListener("pointerdown", show);
  area.addEventListener("pointerleave", hide);
}

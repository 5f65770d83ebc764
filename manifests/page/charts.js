// Charts as SVG: reliability, curves over the steps of runs, and shares of a whole.
function draw(tag, attributes, content) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (content !== undefined) element.textContent = content;
  return element;
}

// Mean P of each bin against its share of right ones; a circle's area is its count.
function reliability(content) {
  const size = 200, edge = 30;
  const x = (value) => edge + value * size, y = (value) => 10 + (1 - value) * size;
  const image = draw("svg", { viewBox: `0 0 ${size + edge + 16} ${size + edge + 10}`, role: "img", "aria-label": content.title });
  image.append(draw("path", { d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}`, stroke: "currentColor", fill: "none" }));
  image.append(draw("path", { d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}`, stroke: "currentColor", "stroke-dasharray": "4", fill: "none" }));
  const most = Math.max(...content.bins.map((bin) => bin[2]));
  for (const [mean, share, count] of content.bins) {
    const circle = draw("circle", { cx: x(mean), cy: y(share), r: 3 + 9 * Math.sqrt(count / most), class: "fill0" });
    circle.append(draw("title", {}, `P ${mean.toFixed(2)}: ${(100 * share).toFixed(0)} % of ${count}`));
    image.append(circle);
  }
  for (const value of [0, 0.5, 1]) {
    image.append(draw("text", { x: x(value) - 6, y: y(0) + 12 }, value), draw("text", { x: 8, y: y(value) + 3 }, value));
  }
  image.append(draw("text", { x: x(0.35), y: y(0) + 26 }, content.x), draw("text", { x: 34, y: 9 }, content.y));
  return image;
}

// Axes with their ends written, and functions from values to places.
function axes(content, [low, high]) {
  const width = 280, height = 150, edge = 44;
  const steps = content.series.flatMap((one) => one.points.map(([step]) => step));
  const first = Math.min(...steps), last = Math.max(...steps);
  const x = (step) => edge + width * (step - first) / (last - first || 1);
  const y = (value) => 8 + height * (high - value) / (high - low || 1);
  const image = draw("svg", { viewBox: `0 0 ${width + edge + 12} ${height + 28}`, role: "img", "aria-label": content.title });
  image.append(draw("path", { d: `M${edge} 8V${height + 8}H${edge + width}`, stroke: "currentColor", fill: "none", opacity: 0.5 }));
  const written = (value) => Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
  image.append(draw("text", { x: 0, y: 14 }, written(high)), draw("text", { x: 0, y: height + 8 }, written(low)));
  image.append(draw("text", { x: edge, y: height + 20 }, first), draw("text", { x: edge + width, y: height + 20, "text-anchor": "end" }, last));
  return { image, x, y };
}

const path = (points) => points.length ? "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L") : "";

// What was logged, thin, under its running mean; few values are dots.
function lines(content) {
  const values = content.series.flatMap((one) => one.points.map(([, value]) => value));
  const { image, x, y } = axes(content, [Math.min(...values), Math.max(...values)]);
  content.series.forEach((one, number) => {
    const place = ([step, value]) => [x(step), y(value)];
    image.append(draw("path", { d: path(one.points.map(place)), class: `line${number % 5} raw` }));
    const mean = draw("path", { d: path(one.means.map(place)), class: `line${number % 5}` });
    mean.append(draw("title", {}, one.name));
    image.append(mean);
    if (one.points.length < 40) {
      for (const [cx, cy] of one.points.map(place)) image.append(draw("circle", { cx, cy, r: 2, class: `fill${number % 5}` }));
    }
  });
  return image;
}

// Shares of a whole, one upon the other.
function stack(content) {
  const { image, x, y } = axes(content, [0, 1]);
  let floor = content.series[0].points.map(() => 0);
  content.series.forEach((one, number) => {
    const top = one.points.map(([, value], place) => Math.min(1, floor[place] + value));
    const at = (heights) => one.points.map(([step], place) => [x(step), y(heights[place])]);
    const area = draw("path", { d: `${path([...at(floor), ...at(top).reverse()])}Z`, class: `fill${number % 6}` });
    area.append(draw("title", {}, one.name));
    image.append(area);
    floor = top;
  });
  return image;
}

function chart(content) {
  const image = { reliability, lines, stack }[content.kind](content);
  const series = content.series ?? [];
  const names = series.map((one, number) => make("li", {}, make("span", { class: `key${number % 6}` }), one.name));
  const legend = series.length > 1 ? make("ul", { class: "legend" }, ...names) : null;
  return make("section", {}, make("h2", {}, content.title), image, legend);
}

// What connects the slider, the charts and the table.

const data = JSON.parse(document.getElementById("data").textContent);
const numClasses = data.classes.length;
const byId = (id) => document.getElementById(id);
const reveal = (...ids) => ids.forEach((id) => { byId(id).hidden = false; });
// So near to a mark, in the units of the charts, a click is meant for it.
const SNAP = 5;
const percent = (value, digits) => `${(100 * value).toFixed(digits)}%`;
// All digits that float32 distances have: a threshold rounded up could miss its target.
const distance = (value) => value.toFixed(6);

/** Read base64 of little-endian float32, which is the order of all current browsers. */
function decodeFloat32(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

/** F-beta of specificity and sensitivity; 0 where both are 0. */
function utilityOf(far, frr) {
  const [specificity, sensitivity, weight] = [1 - far, 1 - frr, data.beta ** 2];
  const denominator = weight * specificity + sensitivity;
  return denominator > 0 ? ((1 + weight) * specificity * sensitivity) / denominator : 0;
}

function drawUtility() {
  const { thresholds, mean, worst, band, lowest } = data.utility_curves;
  const first = thresholds[0];
  const last = thresholds[thresholds.length - 1];
  const chart = new Chart(
    byId("utility-chart"),
    linearAxis(`threshold (${data.distance} distance)`, first, last),
    linearAxis("utility", Math.min(Math.floor(10 * lowest) / 10, 0.9), 1),
  );
  chart.range(data.calibration_range);
  chart.band("utility-band", thresholds, band);
  chart.line(chart.path("mean"), thresholds, mean);
  chart.line(chart.path("worst"), thresholds, worst);
  return chart;
}

const shareText = (i) => (data.share[i] === null ? "–" : percent(data.share[i], 2));
const classColumn = { name: "Class", first: "ascending", value: (i) => i };
const samplesColumn = {
  name: "Samples",
  first: "descending",
  value: (i) => data.samples[i],
  text: (i) => number(data.samples[i]),
};
const shareColumn = {
  name: "Share of OPIS",
  first: "descending",
  value: (i) => data.share[i] ?? 0,
  text: shareText,
};

function showRates() {
  const { thresholds, far_band: farBand, frr_band: frrBand } = data.rates;
  const last = thresholds.length - 1;
  const perClassFar = decodeFloat32(data.rates.per_class_far);
  const perClassFrr = decodeFloat32(data.rates.per_class_frr);
  // One value of each class, at the threshold of the slider.
  let far;
  let frr;
  const utility = new Float64Array(numClasses);
  let selected = -1;
  let pointedAt = -1;

  const ratesChart = new Chart(
    byId("rates-chart"),
    linearAxis(`threshold (${data.distance} distance)`, thresholds[0], thresholds[last]),
    rateAxis("FAR, FRR"),
  );
  ratesChart.range(data.calibration_range);
  ratesChart.band("far-band", thresholds, farBand);
  ratesChart.band("frr-band", thresholds, frrBand);
  ratesChart.line(ratesChart.path("far"), thresholds, data.rates.far);
  ratesChart.line(ratesChart.path("frr"), thresholds, data.rates.frr);
  const classFar = ratesChart.path("selected-curve");
  const classFrr = ratesChart.path("selected-curve dashed");
  const ratesCursor = ratesChart.path("cursor");
  ratesChart.dots(
    ratesChart.path("point"),
    data.points.flatMap(({ index }) => [thresholds[index], thresholds[index]]),
    data.points.flatMap(({ index }) => [data.rates.far[index], data.rates.frr[index]]),
  );
  const farMark = ratesChart.path("far mark");
  const frrMark = ratesChart.path("frr mark");

  const classesChart = new Chart(
    byId("classes-chart"),
    rateAxis("FAR of the class"),
    rateAxis("FRR of the class"),
  );
  // Marks at a rate of 0 lie half outside.
  classesChart.plot.removeAttribute("clip-path");
  const dots = classesChart.path("dots");
  const allMark = classesChart.path("all mark");
  const classMark = classesChart.path("selected-mark mark");

  const utilityChart = drawUtility();
  const classUtility = utilityChart.path("selected-curve");
  const utilityCursor = utilityChart.path("cursor");

  const columns = [
    classColumn,
    samplesColumn,
    { name: "FAR", first: "descending", value: (i) => far[i], text: (i) => percent(far[i], 4) },
    { name: "FRR", first: "descending", value: (i) => frr[i], text: (i) => percent(frr[i], 2) },
    { name: "Utility", first: "ascending", value: (i) => utility[i], text: (i) => utility[i].toFixed(4) },
    shareColumn,
  ];
  const table = new ClassTable(data, columns, select);
  const slider = byId("threshold");
  slider.max = last;

  const buttons = data.points.map(({ name, index }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => moveTo(index));
    byId("points").append(button);
    // A mark beside the slider.
    byId("marks").append(new Option("", index));
    return button;
  });

  function moveTo(index) {
    slider.value = index;
    const start = index * numClasses;
    far = perClassFar.subarray(start, start + numClasses);
    frr = perClassFrr.subarray(start, start + numClasses);
    for (let i = 0; i < numClasses; i++) utility[i] = utilityOf(far[i], frr[i]);
    const [allFar, allFrr] = [data.rates.far[index], data.rates.frr[index]];
    const shown = distance(thresholds[index]);
    const farText = percent(allFar, 4);
    const frrText = percent(allFrr, 2);
    slider.setAttribute("aria-valuetext", `${shown}: FAR ${farText}, FRR ${frrText}`);
    byId("shown-threshold").textContent = shown;
    byId("shown-far").textContent = farText;
    byId("shown-frr").textContent = frrText;
    byId("far-spread").textContent = spread(farBand, index);
    byId("frr-spread").textContent = spread(frrBand, index);
    byId("classes-caption").textContent = `FAR, FRR and utility at threshold ${shown}`;
    buttons.forEach((button, n) => {
      button.setAttribute("aria-pressed", data.points[n].index === index);
    });
    ratesChart.cursor(ratesCursor, thresholds[index]);
    ratesChart.mark(farMark, thresholds[index], allFar);
    ratesChart.mark(frrMark, thresholds[index], allFrr);
    classesChart.dots(dots, far, frr);
    classesChart.mark(allMark, allFar, allFrr);
    utilityChart.cursor(utilityCursor, thresholds[index]);
    showSelected();
    table.update();
  }

  function select(i) {
    selected = i === selected ? -1 : i;
    table.selected = selected;
    showSelected();
    table.show();
  }

  function showSelected() {
    const i = pointedAt >= 0 ? pointedAt : selected;
    const drawn = [classFar, classFrr, classMark, classUtility];
    byId("deselect").hidden = selected < 0;
    byId("selected").classList.toggle("none", i < 0);
    if (i < 0) {
      drawn.forEach((path) => path.removeAttribute("d"));
      byId("selected-name").textContent = "";
      showImage(byId("selected-image"), null);
      byId("selected-rates").textContent = "No class chosen";
      return;
    }
    const farCurve = thresholds.map((_, n) => perClassFar[n * numClasses + i]);
    const frrCurve = thresholds.map((_, n) => perClassFrr[n * numClasses + i]);
    const utilityCurve = farCurve.map((rate, n) => utilityOf(rate, frrCurve[n]));
    ratesChart.line(classFar, thresholds, farCurve);
    ratesChart.line(classFrr, thresholds, frrCurve);
    utilityChart.line(classUtility, thresholds, utilityCurve);
    classesChart.mark(classMark, far[i], frr[i]);
    setText(byId("selected-name"), displayed(data.classes[i]));
    showImage(byId("selected-image"), data.thumbnails?.[i]);
    byId("selected-rates").textContent =
      `FAR ${percent(far[i], 4)}, FRR ${percent(frr[i], 2)}, utility ${utility[i].toFixed(4)}`;
  }

  /** The class whose dot is nearest to an event, if it is near. */
  function classAt(event) {
    const [x, y] = classesChart.place(event);
    let nearest = -1;
    let least = 12 ** 2;
    for (let i = 0; i < numClasses; i++) {
      const apart = (classesChart.x(far[i]) - x) ** 2 + (classesChart.y(frr[i]) - y) ** 2;
      if (apart < least) [nearest, least] = [i, apart];
    }
    return nearest;
  }

  function pointAt(i) {
    if (i === pointedAt) return;
    pointedAt = i;
    showSelected();
  }

  function moveToPlace(event) {
    const [x] = ratesChart.place(event);
    const apart = thresholds.map((threshold) => Math.abs(ratesChart.x(threshold) - x));
    // Marks draw near clicks to them.
    for (const { index } of data.points) apart[index] -= SNAP;
    moveTo(apart.indexOf(Math.min(...apart)));
  }

  slider.addEventListener("input", () => moveTo(slider.valueAsNumber));
  byId("deselect").addEventListener("click", () => select(selected));
  classesChart.svg.addEventListener("pointermove", (event) => pointAt(classAt(event)));
  classesChart.svg.addEventListener("pointerleave", () => pointAt(-1));
  classesChart.svg.addEventListener("click", (event) => {
    const i = classAt(event);
    if (i >= 0) select(i);
  });
  ratesChart.svg.addEventListener("pointerdown", moveToPlace);
  ratesChart.svg.addEventListener("pointermove", (event) => {
    if (event.buttons === 1) moveToPlace(event);
  });

  reveal("control", "charts", "charts-note", "selected", "classes-section");
  // The middle one of the operating points.
  const start = data.points[(data.num_operating_points - 1) >> 1]?.index ?? last >> 1;
  [table.column, table.direction] = [columns[4], columns[4].first];
  moveTo(start);
}

function spread([low, high], index) {
  return `90% of classes: ${percent(low[index], 2)} to ${percent(high[index], 2)}`;
}

showRates();

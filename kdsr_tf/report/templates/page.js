"use strict";
const items = JSON.parse(document.getElementById("items").textContent);
const inRows = document.body.classList.contains("rows");

const make = (tag, name = "", text = "") => {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
};

// Every picture is in the page once; a tile without one shows its title as a cover.
const illustrate = (place) => {
  const item = items[place.dataset.item];
  if (item.picture) {
    const image = make("img");
    image.alt = "";
    image.decoding = "async";
    image.src = "data:image/webp;base64," + item.picture;
    place.append(image);
  } else if (!inRows) {
    place.classList.add("cover");
    place.append(make("span", "", item.title));
    place.setAttribute("aria-hidden", "true");
  }
};

const tile = (number) => {
  const made = make("li", "tile");
  const place = make("span", "picture");
  place.dataset.item = number;
  illustrate(place);
  made.append(place, make("span", "title", items[number].title));
  return made;
};

const profile = (values, largest) => {
  const chart = make("div", values.length > 12 ? "profile dense" : "profile");
  values.forEach((value, number) => {
    const column = make("div", "column" + (value < 0 ? " minus" : ""));
    column.style.setProperty("--height", Math.abs(value) / largest);
    column.append(make("i"), make("b", "", value.toFixed(2)), make("small", "", number + 1));
    chart.append(column);
  });
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", "Correlation per sub-vector: " + values.map((v) => v.toFixed(2)).join(", "));
  return chart;
};

const explore = (explorer) => {
  const { codes, largest } = JSON.parse(explorer.querySelector("script").textContent);
  const radios = [...explorer.querySelectorAll("input")];
  const place = explorer.querySelector(".chosen");

  const show = (code) => {
    const heading = make("h4", "", `Code ${code.code} `);
    heading.append(make("small", "", `${(100 * code.share).toFixed(2)}% of the sampled pairs`));
    const pairs = make("div", "pairs");
    for (const pair of code.pairs) {
      const both = make("ul", "pair");
      both.append(...pair.map(tile));
      pairs.append(both);
    }
    const said = code.pairs.length ? "Pairs nearest to it" : "No pair of the sample has it.";
    place.replaceChildren(
      heading, make("h5", "", "Correlation in each sub-vector"), profile(code.profile, largest),
      make("h5", "", said), pairs);
  };

  // Left and right are the browser's own; up and down go by rows of the grid.
  explorer.addEventListener("keydown", (event) => {
    const at = radios.indexOf(event.target);
    if (at < 0) return;
    const top = radios[0].parentElement.offsetTop;
    const columns = radios.filter((radio) => radio.parentElement.offsetTop === top).length;
    const steps = { ArrowUp: -columns, ArrowDown: columns, Home: -at, End: radios.length - 1 - at };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = radios[at + steps[event.key]];
    if (!next || next === event.target) return;
    next.checked = true;
    next.focus();
    show(codes[next.value]);
  });
  explorer.addEventListener("change", (event) => show(codes[event.target.value]));
  const chosen = radios.find((radio) => radio.checked);
  if (chosen) show(codes[chosen.value]);
};

document.querySelectorAll("[data-item]").forEach(illustrate);
document.querySelectorAll(".explorer").forEach(explore);

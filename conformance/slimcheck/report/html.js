"use strict";
document.documentElement.classList.add("js");
const findings = Array.from(document.querySelectorAll(".finding"));
const texts = findings.map((finding) => finding.textContent.toLowerCase());
const search = document.getElementById("search");
const boxes = Array.from(document.querySelectorAll(".tools input[type=checkbox]"));
const shown = document.getElementById("shown");

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  let count = 0;
  findings.forEach((finding, i) => {
    const fits = wanted.has(finding.dataset.severity) && words.every((w) => texts[i].includes(w));
    finding.hidden = !fits;
    count += fits;
  });
  shown.textContent = count + " / " + findings.length;
}

function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) {
    target.hidden = false;
    target.open = true;
    target.scrollIntoView();
  }
}

if (search) {
  search.addEventListener("input", filter);
  boxes.forEach((box) => box.addEventListener("change", filter));
  filter();
}
window.addEventListener("hashchange", openTarget);
openTarget();

// Completes airports while they are typed. Without it the form works all the same.
"use strict";
const list = document.getElementById("airports");
let pending;
for (const field of document.querySelectorAll("input[list=airports]")) {
  field.addEventListener("input", () => {
    clearTimeout(pending);
    const text = field.value.trim();
    if (text.length < 2) return;
    pending = setTimeout(async () => {
      const answer = await fetch(`/airports/suggest/?q=${encodeURIComponent(text)}`);
      if (!answer.ok) return;
      const { airports } = await answer.json();
      list.replaceChildren(...airports.map((name) => Object.assign(document.createElement("option"), { value: name })));
    }, 150);
  });
}

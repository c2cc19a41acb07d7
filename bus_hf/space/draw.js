// Drag a box on the image: its left, top, width and height go into the box field, where they can be typed as well.
(() => {
  let from = null;
  const place = (scan, event) => {
    const frame = scan.querySelector(".stage").getBoundingClientRect();
    const share = (value, low, size) => Math.min(1, Math.max(0, (value - low) / size));
    return [share(event.clientX, frame.left, frame.width) * scan.dataset.width, share(event.clientY, frame.top, frame.height) * scan.dataset.height];
  };
  const box = (one, two) => [Math.min(one[0], two[0]), Math.min(one[1], two[1]), Math.abs(one[0] - two[0]), Math.abs(one[1] - two[1])].map(Math.floor);
  document.addEventListener("pointerdown", (event) => {
    const scan = event.target.closest?.(".drawing .scan");
    if (!scan || !event.target.closest(".stage")) return;
    event.preventDefault();
    from = { scan, at: place(scan, event) };
  });
  document.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [x, y, width, height] = box(from.at, place(from.scan, event));
    for (const rect of from.scan.querySelectorAll(".drawn")) for (const [key, value] of Object.entries({ x, y, width, height })) rect.setAttribute(key, value);
  });
  document.addEventListener("pointerup", (event) => {
    if (!from) return;
    const drawn = box(from.at, place(from.scan, event));
    from = null;
    const field = document.querySelector("#roi input, #roi textarea");
    if (!field || drawn[2] < 2 || drawn[3] < 2) return;
    field.value = drawn.join(", ");
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });
  document.addEventListener("change", (event) => {
    if (event.target.closest?.("#draw")) document.body.classList.toggle("drawing", event.target.checked);
  });
})();

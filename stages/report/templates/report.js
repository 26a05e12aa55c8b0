(() => {
  const rows = JSON.parse(document.getElementById("details").textContent);
  const box = document.getElementById("highlighted-text"), about = document.getElementById("about"), all = box.querySelectorAll("span");
  let at = -1;
  const percent = p => (100 * p).toPrecision(3) + " %";
  const show = index => {
    if (at >= 0) all[at].classList.remove("here");
    at = Math.max(0, Math.min(all.length - 1, index));
    all[at].classList.add("here");
    const [token, p, names, top] = rows[at];
    about.textContent = `${token}: probability ${percent(p)}, ${(-Math.log2(p)).toFixed(2)} bits. Most likely: ` + names.map((name, i) => `${name} ${percent(top[i])}`).join(", ");
  };
  box.addEventListener("mouseover", event => { const index = Array.prototype.indexOf.call(all, event.target); if (index >= 0) show(index); });
  box.addEventListener("focus", () => { if (at < 0) show(0); });
  box.addEventListener("keydown", event => {
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 40, ArrowUp: -40, Home: -all.length, End: all.length };
    if (!(event.key in moves)) return;
    event.preventDefault();
    show(at + moves[event.key]);
    all[at].scrollIntoView({ block: "nearest" });
  });
})();

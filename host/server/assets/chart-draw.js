// What uPlot has no series for: the bounds of intervals, flags on bars, and where marks stand.

const CLUSTER_PX = 20;

export function draw(u, { times, lines, bars, marks }, color) {
  const { ctx, bbox } = u;
  const dpr = devicePixelRatio || 1;
  const x = (at) => u.valToPos(at, "x", true);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
  ctx.clip();
  const spacing = times.length > 1 ? x(times[1]) - x(times[0]) : 100;
  for (const line of lines.filter((l) => l.whiskers)) {
    ctx.strokeStyle = color(line.color);
    ctx.lineWidth = 1.5 * dpr;
    ctx.beginPath();
    line.low.forEach((low, i) => {
      if (low === null || low === undefined) return;
      const [at, top, bottom, half] = [
        x(times[i]),
        u.valToPos(line.high[i], "share", true),
        u.valToPos(low, "share", true),
        Math.min(4 * dpr, spacing / 3),
      ];
      ctx.moveTo(at, top);
      ctx.lineTo(at, bottom);
      for (const end of [top, bottom]) {
        ctx.moveTo(at - half, end);
        ctx.lineTo(at + half, end);
      }
    });
    ctx.stroke();
  }
  bars?.flags?.forEach((flag, i) => {
    if (!flag) return;
    const [at, top] = [x(times[i]), u.valToPos(bars.values[i] ?? 0, "count", true)];
    const size = 4 * dpr;
    if (flag.corrected) {
      ctx.fillStyle = color("--corrected");
      ctx.beginPath();
      for (const [dx, dy] of [
        [0, -size],
        [size, 0],
        [0, size],
        [-size, 0],
      ])
        ctx.lineTo(at + dx, top - 7 * dpr + dy);
      ctx.fill();
    }
    if (flag.late) {
      ctx.strokeStyle = color("--late");
      ctx.lineWidth = 2 * dpr;
      const y = top - (flag.corrected ? 18 : 7) * dpr;
      ctx.beginPath();
      for (const sign of [-1, 1]) {
        ctx.moveTo(at - size * 0.8, y - sign * size * 0.8);
        ctx.lineTo(at + size * 0.8, y + sign * size * 0.8);
      }
      ctx.stroke();
    }
  });
  ctx.setLineDash([4 * dpr, 4 * dpr]);
  ctx.lineWidth = dpr;
  ctx.strokeStyle = color("--mark");
  ctx.beginPath();
  for (const mark of marks) {
    ctx.moveTo(x(mark.at_ms), 16 * dpr);
    ctx.lineTo(x(mark.at_ms), bbox.top + bbox.height);
  }
  ctx.stroke();
  ctx.restore();
}

// Marks that would cover each other become one flag.
export function clusters(u, marks) {
  const found = [];
  const { min, max } = u.scales.x;
  for (const mark of marks) {
    if (mark.at_ms < min || mark.at_ms > max) continue;
    const left = Math.round(u.valToPos(mark.at_ms, "x") + u.over.offsetLeft);
    const last = found[found.length - 1];
    if (last && left - last.left < CLUSTER_PX) last.items.push(mark);
    else found.push({ left, items: [mark] });
  }
  return found;
}

// What a CTR of few impressions is worth. Pure.

const Z = 1.959963984540054; // 95 %

// Wilson's interval of clicks among impressions, [low, high]; null of nothing.
export function wilson(clicks, impressions) {
  if (!impressions || clicks < 0 || clicks > impressions) return null;
  const share = clicks / impressions;
  const square = Z * Z;
  const scale = 1 + square / impressions;
  const middle = (share + square / (2 * impressions)) / scale;
  const half = (Z / scale) * Math.sqrt((share * (1 - share)) / impressions + square / (4 * impressions * impressions));
  return [clicks === 0 ? 0 : Math.max(0, middle - half), clicks === impressions ? 1 : Math.min(1, middle + half)];
}

// Whether two CTRs differ by more than chance would make them (two-sided, 95 %, pooled); null where too little is
// known.
export function differ(a, b) {
  if (!a.impressions || !b.impressions) return null;
  const pooled = (a.clicks + b.clicks) / (a.impressions + b.impressions);
  const error = Math.sqrt(pooled * (1 - pooled) * (1 / a.impressions + 1 / b.impressions));
  if (error === 0) return null;
  return Math.abs(a.clicks / a.impressions - b.clicks / b.impressions) / error > Z;
}

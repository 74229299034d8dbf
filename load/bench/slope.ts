/** A straight line through points, by least squares. Pure. */

export interface Point {
  x: number
  y: number
}

/** Of y by x; NaN for fewer than two places. */
export function slopeOf(points: readonly Point[]): number {
  const mean = (of: (p: Point) => number) => points.reduce((sum, p) => sum + of(p), 0) / points.length
  const [x, y] = [mean(p => p.x), mean(p => p.y)]
  const down = points.reduce((sum, p) => sum + (p.x - x) ** 2, 0)
  return down === 0 ? Number.NaN : points.reduce((sum, p) => sum + (p.x - x) * (p.y - y), 0) / down
}

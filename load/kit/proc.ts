/** CPU and memory of processes from /proc, for tables of a benchmark. Linux only; elsewhere everything is zero. */
import { readdirSync, readFileSync } from 'node:fs'

/** Kernel ticks are 100 a second on every Linux that matters. */
const msPerTick = 10

/** CPU ms used so far by a process, with the children that it has already buried. */
export function cpuMs(pid: number | undefined): number {
  const stat = statOf(pid)
  return stat ? (stat.utime + stat.stime + stat.deadUtime + stat.deadStime) * msPerTick : 0
}

/** The same for a process and all its descendants. */
export function treeCpuMs(pid: number | undefined): number {
  if (!pid) return 0
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    const child = /^\d+$/.test(name) ? statOf(Number(name)) : undefined
    if (child) children.set(child.parent, [...(children.get(child.parent) ?? []), Number(name)])
  }
  const sum = (of: number): number => cpuMs(of) + (children.get(of) ?? []).reduce((total, c) => total + sum(c), 0)
  return sum(pid)
}

/** CPU ms that the whole machine has used so far, over all cores. */
export function machineCpuMs(): number {
  try {
    const [user, nice, system, , , irq, soft] = readFileSync('/proc/stat', 'utf8')
      .slice(5)
      .trim()
      .split(/\s+/)
      .map(Number)
    return (user! + nice! + system! + irq! + soft!) * msPerTick
  } catch {
    return 0
  }
}

/** Resident bytes of a process. */
export function rssBytes(pid: number | undefined): number {
  return (statOf(pid)?.rssPages ?? 0) * 4096
}

function statOf(pid: number | undefined) {
  if (!pid) return undefined
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const f = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const n = (i: number) => Number(f[i - 3])
    return { parent: n(4), utime: n(14), stime: n(15), deadUtime: n(16), deadStime: n(17), rssPages: n(24) }
  } catch {
    return undefined
  }
}

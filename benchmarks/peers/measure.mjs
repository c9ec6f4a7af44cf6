/** The course of one measurement, as measure.py has it, for the systems that run on node. */

import crypto from 'node:crypto'
import fs from 'node:fs'

const ONE_WAY_MS = Number(process.env.BENCH_ONE_WAY_MS ?? 25)
const OWN_STORE_MS = 1.6 * ONE_WAY_MS // a get under 0.8 RTT did not come from another node
const VALUE_BYTES = 990
const PUTS = 40
const DEAD_SHARE = 0.3
const PART_MS = 15_000
const PORTS = 65_536

export const NODES = Number(process.env.BENCH_NODES ?? 64)
export const GET_LIMIT_MS = 30_000

/** The file shared with the UDP shim: who is silent, how much was sent. */
export class State {
  constructor (path) { this.file = fs.openSync(path, 'r+') }

  silence (port) { fs.writeSync(this.file, Buffer.from([1]), 0, 1, port) }

  count (place) {
    const bytes = Buffer.alloc(8)
    fs.readSync(this.file, bytes, 0, 8, PORTS + 8 * place)
    return Number(bytes.readBigUInt64LE())
  }
}

/** Resolve with undefined if the promise takes longer than the limit. */
export function within (ms, promise) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/**
 * Run the course and print what was found, one JSON object a line, the last one whole.
 *
 * `put(node, value)` resolves to a key or null, `get(node, key)` to true if the value came,
 * `port(node)` is its UDP port, `atOnce` how many gets are under way at a time after the deaths.
 */
export async function measure ({ put, get, port, state, before, atOnce = 1 }) {
  const found = {
    nodes: NODES,
    idle_bytes: (process.memoryUsage.rss() - before) / NODES,
    missing: { notify: 'has no push' },
    own_store: 0
  }
  const doomed = [...Array(NODES).keys()].filter(i => i % 10 < 10 * DEAD_SHARE)
  const dead = new Set(doomed.slice(-Math.floor(DEAD_SHARE * NODES)))
  const callers = [...Array(NODES).keys()].filter(i => !dead.has(i))
  const tell = () => console.log(JSON.stringify(found))
  const any = () => callers[crypto.randomInt(callers.length)]
  const spent = () => {
    const { user, system } = process.cpuUsage()
    return { cpu: (user + system) / 1e6, rpcs: Math.floor(state.count(0) / 2) }
  }
  const read = async (node, key) => {
    const start = performance.now()
    const came = await within(GET_LIMIT_MS, get(node, key))
    const taken = performance.now() - start
    return { came, taken, own: came && taken < OWN_STORE_MS }
  }

  tell()
  const kept = []
  const start = spent()
  let end = performance.now() + PART_MS
  found.put_s = []
  found.put_failed = 0
  for (let i = 0; i < PUTS && performance.now() < end; i++) {
    const begun = performance.now()
    const key = await within(GET_LIMIT_MS, put(any(), crypto.randomBytes(VALUE_BYTES)))
    if (!key) { found.put_failed++; continue }
    found.put_s.push((performance.now() - begun) / 1000)
    kept.push(key)
  }
  tell()
  end = performance.now() + PART_MS
  found.get_s = []
  found.get_missed = 0
  for (const key of kept) {
    if (performance.now() > end) break
    let one = await read(any(), key)
    for (let i = 0; one.own && i < NODES; i++) { found.own_store++; one = await read(any(), key) }
    found.get_s.push((one.came ? one.taken : GET_LIMIT_MS) / 1000)
    if (!one.came) found.get_missed++
  }
  const after = spent()
  found.cpu_s = after.cpu - start.cpu
  found.rpcs = after.rpcs - start.rpcs
  tell()
  for (const node of dead) state.silence(port(node))
  found.dead = dead.size
  for (const part of ['dead30', 'dead30_second']) {
    end = performance.now() + PART_MS
    found[`${part}_s`] = []
    found[`${part}_found`] = 0
    for (let i = 0; i < callers.length && kept.length; i += atOnce) {
      if (performance.now() > end) break
      const some = callers.slice(i, i + atOnce)
      for (const one of await Promise.all(some.map(n => read(n, kept[n % kept.length])))) {
        if (one.own) { found.own_store++; continue }
        found[`${part}_s`].push((one.came ? one.taken : GET_LIMIT_MS) / 1000)
        if (one.came) found[`${part}_found`]++
      }
    }
    found.silenced = state.count(1)
    tell()
  }
  process.exit(0)
}

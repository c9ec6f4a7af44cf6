/** hyperdht (npm): immutable items. */

import DHT from 'hyperdht'
import dgram from 'node:dgram'
import { NODES, State, measure } from './measure.mjs'

/** Resolve to a UDP port of loopback that was free a moment ago. */
async function freePort () {
  const socket = dgram.createSocket('udp4')
  await new Promise(resolve => socket.bind(0, '127.0.0.1', resolve))
  const { port } = socket.address()
  await new Promise(resolve => socket.close(resolve))
  return port
}

const before = process.memoryUsage.rss()
const first = DHT.bootstrapper(await freePort(), '127.0.0.1')
await first.fullyBootstrapped()
const bootstrap = [{ host: '127.0.0.1', port: first.address().port }]
const nodes = []
for (let i = 0; i < NODES; i++) {
  const node = new DHT({ bootstrap, ephemeral: false, firewalled: false, host: '127.0.0.1', port: 0 })
  await node.fullyBootstrapped()
  nodes.push(node)
}

await measure({
  before,
  state: new State(process.argv[2]),
  port: i => nodes[i].address().port,
  put: async (i, value) => (await nodes[i].immutablePut(value)).hash,
  get: async (i, key) => !!(await nodes[i].immutableGet(key))
})

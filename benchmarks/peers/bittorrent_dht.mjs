/** bittorrent-dht (npm): BEP 5 and 44, immutable items. */

import { Client } from 'bittorrent-dht'
import { NODES, State, measure } from './measure.mjs'

const READY_MS = 5_000

const before = process.memoryUsage.rss()
const nodes = []
for (let i = 0; i < NODES; i++) {
  const bootstrap = i ? [`127.0.0.1:${nodes[0].address().port}`] : false
  const node = new Client({ bootstrap, host: false, verify: null })
  await new Promise(resolve => node.listen(0, '127.0.0.1', resolve))
  nodes.push(node)
  if (i) {
    await new Promise(resolve => {
      node.once('ready', resolve)
      setTimeout(resolve, READY_MS)
    })
  }
}

await measure({
  before,
  atOnce: 5, // each waits seconds for the dead
  state: new State(process.argv[2]),
  port: i => nodes[i].address().port,
  put: (i, v) => new Promise(resolve =>
    nodes[i].put({ v }, (error, hash) => resolve(error ? null : hash))),
  get: (i, key) => new Promise(resolve =>
    nodes[i].get(key, (error, got) => resolve(!error && !!got)))
})

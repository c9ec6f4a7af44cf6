// A peer by js-libp2p, driven by lines of JSON: {"id", "do", …} in; {"id", "ok" | "error"} and
// {"news"} out. Bytes are {"hex"}. The first line out says who it is and where it listens.
import './older.mjs'
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { Dht, fingerprint, grind, recordKey } from './dht.mjs'
import { sha256 } from './wire.mjs'

const [network, bits] = [process.argv[2], Number(process.argv[3])]
const key = grind(network, bits)
const libp2p = await createLibp2p({
  privateKey: privateKeyFromRaw(key.secret),
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    ping: ping(),
    identify: identify(),
    gossip: gossipsub({ // docs/wire/gossip.md
      globalSignaturePolicy: 'StrictNoSign',
      msgIdFn: message => sha256(message.data),
      fallbackToFloodsub: false,
      allowPublishToZeroTopicPeers: true
    })
  }
})
const gossip = libp2p.services.gossip
const dht = new Dht(libp2p, network, key)
await dht.serve()

const toBytes = (_, item) => item?.hex === undefined ? item : Buffer.from(item.hex, 'hex')
const toHex = (_, item) => {
  if (item?.type === 'Buffer') item = Buffer.from(item.data) // as it turns itself into JSON
  return item instanceof Uint8Array ? { hex: Buffer.from(item).toString('hex') } : item
}
const say = value => process.stdout.write(JSON.stringify(value, toHex) + '\n')
const keyOf = ({ kind, market }) => recordKey(network, kind, market)

const commands = {
  ping: ({ addr }) => libp2p.services.ping.ping(multiaddr(addr)),

  async identify ({ addr }) {
    const connection = await libp2p.dial(multiaddr(addr))
    const told = await libp2p.services.identify.identify(connection)
    return {
      peerId: told.peerId.toString(),
      agentVersion: told.agentVersion,
      protocolVersion: told.protocolVersion,
      protocols: told.protocols,
      listenAddrs: told.listenAddrs.map(String),
      observedAddr: String(told.observedAddr)
    }
  },

  async select ({ addr, protocol }) {
    const stream = await libp2p.dialProtocol(multiaddr(addr), protocol)
    stream.abort(new Error('only the protocol was asked for'))
    return stream.protocol
  },

  ask: ({ peer, method, args }) => dht.ask(peer, method, args),

  put: ({ record, ...where }) => dht.put(where.kind, keyOf(where), record),

  get: where => dht.get(where.kind, keyOf(where)),

  listen: ({ peer, seconds, ...where }) =>
    dht.ask(peer, 'listen', [where.kind, keyOf(where), seconds], news => say({ news })),

  sign: ({ kind, body }) => dht.sign(kind, body),

  open: ({ kind, record, owner }) => dht.open(kind, record, body => body[owner]),

  hold: ({ record, ...where }) => dht.keep(where.kind, keyOf(where), record),

  held: where => [...dht.under(where.kind, keyOf(where)).values()].map(([, raw]) => raw),

  fingerprint: ({ records }) => fingerprint(records),

  asked: () => dht.asked,

  dial: ({ addr }) => libp2p.dial(multiaddr(addr)).then(() => null),

  join ({ topic, refuse }) { // messages that begin with `refuse` are rejected
    gossip.topicValidators.set(topic, (_, message) =>
      Buffer.from(message.data).toString().startsWith(refuse) ? 'reject' : 'accept')
    gossip.subscribe(topic)
  },

  leave: ({ topic }) => gossip.unsubscribe(topic),

  publish: async ({ topic, data }) => (await gossip.publish(topic, data)).recipients.length,

  around: ({ topic }) => ({
    subscribers: gossip.getSubscribers(topic).map(String),
    mesh: gossip.getMeshPeers(topic),
    protocols: [...gossip.streamsOutbound.values()].map(stream => stream.protocol)
  }),

  score: ({ peer }) => gossip.getScore(peer)
}
gossip.addEventListener('gossipsub:message', ({ detail }) =>
  say({ news: [detail.msg.topic, detail.msg.data] }))

say({ node_id: key.id, peer_id: libp2p.peerId.toString(), addrs: dht.addrs, node: process.version })
for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, ...args } = JSON.parse(line, toBytes)
  Promise.resolve().then(() => commands[name](args)).then(
    ok => say({ id, ok: ok ?? null }),
    error => say({ id, error: `${error.name}: ${error.message}` })
  )
}
await libp2p.stop()

// /p2pnode/<network>/dht/1 on any libp2p node, as docs/wire/dht.md has it: asking, answering,
// lookups, signed records.
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto'
import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { frame, frames, pack, sha256, tag, unpack } from './wire.mjs'

const K = 20
const FRAME_LIMIT = 16384
const PAGE_BYTES = 12000
const ANSWER_MS = 2000
const SPKI = Buffer.from('302a300506032b6570032100', 'hex') // RFC 8410, before the 32 bytes
const PEER_ID = Buffer.from('002408011220', 'hex')

const hex = bytes => Buffer.from(bytes).toString('hex')
const order = (a, b) => Buffer.compare(a, b)

/** A key pair whose hash begins with `bits` zero bits; with a negative number, just not. */
export function grind (network, bits) {
  const publicKeyEncoding = { format: 'der', type: 'spki' }
  const privateKeyEncoding = { format: 'der', type: 'pkcs8' } // both end in the 32 bytes of the key
  for (;;) { // as bytes: node 20 may hang if it collects garbage while it exports a KeyObject
    const made = generateKeyPairSync('ed25519', { publicKeyEncoding, privateKeyEncoding })
    const id = made.publicKey.subarray(-32)
    const first = sha256(tag(network, 'node'), pack([id])).readUInt32BE()
    if (first < 2 ** (32 - Math.abs(bits)) !== bits > 0) continue
    const privateKey = createPrivateKey({ key: made.privateKey, format: 'der', type: 'pkcs8' })
    return { id, secret: Buffer.concat([made.privateKey.subarray(-32), id]), privateKey }
  }
}

/** Where a node, or a record of a kind and market, lies. */
export const place = id => sha256(PEER_ID, id)
export const recordKey = (network, kind, market) =>
  sha256(tag(network, 'dht-key'), pack([kind, market, 0]))

/** What a set of records hashes to: the sum of their hashes and their number. */
export function fingerprint (raws) {
  let sum = 0n
  for (const raw of raws) sum += BigInt('0x' + hex(sha256(raw)))
  const number = Buffer.alloc(4)
  number.writeUInt32BE(raws.length)
  const sum32 = Buffer.from((sum % 2n ** 256n).toString(16).padStart(64, '0'), 'hex')
  return sha256(sum32, number).subarray(0, 16)
}

function nearer (key) {
  const far = id => place(id).map((byte, i) => byte ^ key[i])
  return (a, b) => order(far(a.id), far(b.id))
}

export class Dht {
  constructor (libp2p, network, key) {
    Object.assign(this, { libp2p, network, key })
    this.protocol = `/p2pnode/${network}/dht/1`
    this.links = new Map() // node id in hex -> our stream to it
    this.contacts = new Map() // node id in hex -> { id, addrs }
    this.records = new Map() // kind and key -> place -> [owner ‖ id, record]
    this.listeners = [] // [kind and key, push, who]
    this.asked = [] // the methods others have asked, in order
  }

  /** Where we listen, as a hello tells it: without the peer id. */
  get addrs () {
    return this.libp2p.getMultiaddrs().map(addr => addr.decapsulate('/p2p').toString())
  }

  // ---------------------------------------------------------------- records

  /** [body, signature] under the tag of its kind. */
  sign (kind, body) {
    const packed = pack(body)
    const tagged = Buffer.concat([tag(this.network, kind), packed])
    return pack([packed, sign(null, tagged, this.key.privateKey)])
  }

  /** The body of a record that `owner(body)` has signed; throws if he has not. */
  open (kind, raw, owner) {
    const [packed, signature] = unpack(raw)
    const body = unpack(packed)
    const spki = Buffer.concat([SPKI, owner(body)])
    const key = createPublicKey({ key: spki, format: 'der', type: 'spki' })
    const signed = Buffer.concat([tag(this.network, kind), packed])
    if (!verify(null, signed, key, signature)) throw new Error('the signature is wrong')
    return body
  }

  // ---------------------------------------------------------------- answering

  async serve () {
    await this.libp2p.handle(this.protocol, async (stream, connection) => {
      const asker = connection.remotePeer.publicKey.raw
      const say = message => stream.status === 'open' && stream.send(frame(pack(message)))
      try {
        for await (const payload of frames(stream, FRAME_LIMIT)) {
          const [type, id, method, args] = unpack(payload)
          if (type !== 0) throw new Error('not a question')
          this.asked.push([hex(asker), method])
          const answer = this[`answer_${method}`]
          if (answer === undefined) say([2, id, 'this method is not known here'])
          else say([1, id, answer.call(this, args, asker, records => say([3, id, records]))])
        }
        await stream.close()
      } catch (error) {
        stream.abort(error)
      }
    })
  }

  answer_hello ([addrs], asker) {
    this.met(asker, addrs)
    return this.addrs
  }

  answer_ping () { return [] }

  answer_find_node ([key], asker) { return this.near(key, asker) }

  answer_find_value ([kind, key, cursor], asker) {
    const rest = this.sorted(kind, key).filter(([at]) => order(at, cursor) > 0)
    const page = []
    let room = PAGE_BYTES
    while (rest.length > 0 && (room -= rest[0][1].length + 4) >= 0) page.push(rest.shift())
    const last = rest.length > 0 ? page.at(-1)[0] : Buffer.alloc(0)
    return [cursor.length ? [] : this.near(key, asker), page.map(([, raw]) => raw), last]
  }

  answer_store ([kind, key, raw], asker) {
    return [this.keep(kind, key, raw) ? 1 : 0, this.near(key, asker)]
  }

  answer_listen ([kind, key, seconds], asker, push) {
    const name = kind + hex(key)
    const same = ([other, , who]) => other === name && who === hex(asker)
    this.listeners = this.listeners.filter(listener => !same(listener))
    if (seconds > 0) this.listeners.push([name, push, hex(asker)])
    return [Math.min(seconds, 600)]
  }

  answer_digest ([kind, key, low, high]) {
    const held = this.sorted(kind, key).filter(([at]) =>
      order(at, low) >= 0 && (high.length === 0 || order(at, high) < 0))
    const count = held.length > 8 ? 16 : 1
    const from = part => Math.floor(part * held.length / count)
    return Array.from({ length: count }, (_, part) => {
      const raws = held.slice(from(part), from(part + 1)).map(([, raw]) => raw)
      return [part + 1 < count ? held[from(part + 1)][0] : high, raws.length, fingerprint(raws)]
    })
  }

  /** Keep a record whose signature is right, the owner's latest; tells whether it is held. */
  keep (kind, key, raw) {
    const at = kind === 'address' ? [2, null, 4] : [1, 2, 3] // owner, id, seq in the body
    const body = this.open(kind, raw, body => body[at[0]])
    const where = Buffer.concat([body[at[0]], at[1] === null ? Buffer.alloc(0) : body[at[1]]])
    const held = this.under(kind, key)
    const old = held.get(hex(where))
    if (old?.[1].equals(raw)) return true
    if (old !== undefined && unpack(unpack(old[1])[0])[at[2]] >= body[at[2]]) return false
    held.set(hex(where), [where, Buffer.from(raw)])
    for (const [name, push] of this.listeners) if (name === kind + hex(key)) push([raw])
    return true
  }

  under (kind, key) {
    const name = kind + hex(key)
    if (!this.records.has(name)) this.records.set(name, new Map())
    return this.records.get(name)
  }

  /** [owner ‖ id, record] of a key in that order. */
  sorted (kind, key) {
    return [...this.under(kind, key).values()].sort((a, b) => order(a[0], b[0]))
  }

  // ---------------------------------------------------------------- contacts

  /** Remember a peer that has told its addresses. */
  met (id, addrs) {
    if (addrs.length > 0) this.contacts.set(hex(id), { id: Buffer.from(id), addrs })
  }

  near (key, asker) {
    const others = [...this.contacts.values()].filter(({ id }) => hex(id) !== hex(asker))
    return others.sort(nearer(key)).slice(0, K).map(({ id, addrs }) => [id, addrs])
  }

  // ---------------------------------------------------------------- asking

  /** Our stream to a peer: opened once and kept. */
  link (peer) {
    const name = hex(peer.id)
    if (!this.links.has(name)) {
      const made = this.dial(peer, () => this.links.delete(name))
      made.catch(() => this.links.delete(name))
      this.links.set(name, made)
    }
    return this.links.get(name)
  }

  async dial ({ id, addrs }, ended) {
    const peerId = peerIdFromPublicKey(publicKeyFromRaw(id)).toString()
    const full = addrs.map(addr => multiaddr(`${addr}/p2p/${peerId}`))
    const stream = await this.libp2p.dialProtocol(full, this.protocol)
    const link = { stream, next: 0, waiting: new Map(), news: new Map() }
    this.read(link).catch(error => stream.abort(error)).finally(() => {
      ended()
      for (const { reject } of link.waiting.values()) reject(new Error('the stream has ended'))
    })
    this.met(id, await this.question(link, 'hello', [this.addrs])) // it goes first, as id 0
    return link
  }

  async read (link) {
    for await (const payload of frames(link.stream, FRAME_LIMIT)) {
      const [type, id, result] = unpack(payload)
      if (type === 3) link.news.get(id)?.(result)
      else if (type === 1) link.waiting.get(id)?.resolve(result)
      else if (type === 2) link.waiting.get(id)?.reject(new Error(`refused: ${result}`))
      else throw new Error('a question where answers belong')
    }
  }

  async ask (peer, ...rest) {
    return this.question(await this.link(peer), ...rest)
  }

  async question (link, method, args, news) {
    const id = link.next++
    const waiting = Promise.withResolvers()
    const late = setTimeout(() => waiting.reject(new Error(`no answer to ${method}`)), ANSWER_MS)
    link.waiting.set(id, waiting)
    if (news !== undefined) link.news.set(id, news)
    try {
      if (!link.stream.send(frame(pack([0, id, method, args])))) await link.stream.onDrain()
      return await waiting.promise
    } finally {
      clearTimeout(late)
      link.waiting.delete(id)
    }
  }

  // ---------------------------------------------------------------- lookups

  /** Ask the K nearest with `question(peer)`, which returns nearer peers, until none is unasked. */
  async lookup (key, question) {
    const known = new Map(this.contacts)
    const asked = new Set()
    for (;;) {
      const nearest = [...known.values()].sort(nearer(key)).slice(0, K)
      const next = nearest.find(({ id }) => !asked.has(hex(id)))
      if (next === undefined) return nearest
      asked.add(hex(next.id))
      try {
        for (const [id, addrs] of await question(next)) {
          if (hex(id) === hex(this.key.id) || known.has(hex(id))) continue
          known.set(hex(id), { id: Buffer.from(id), addrs })
        }
      } catch {
        known.delete(hex(next.id)) // it does not answer
      }
    }
  }

  /** Store at the closest; returns how many hold it. */
  async put (kind, key, raw) {
    const nearest = await this.lookup(key, peer => this.ask(peer, 'find_node', [key]))
    const told = await Promise.all(nearest.map(peer => this.ask(peer, 'store', [kind, key, raw])))
    return told.filter(([held]) => held === 1).length
  }

  /** All records that the closest hold under a key, and how many pages they took. */
  async get (kind, key) {
    const found = new Map()
    let pages = 0
    await this.lookup(key, async peer => {
      let named
      for (let cursor = Buffer.alloc(0); ;) {
        const [peers, records, next] = await this.ask(peer, 'find_value', [kind, key, cursor])
        pages++
        named ??= peers
        for (const raw of records) found.set(hex(raw), raw)
        if (next.length === 0) return named
        if (order(next, cursor) <= 0) throw new Error('a cursor that does not rise')
        cursor = next
      }
    })
    return { records: [...found.values()], pages }
  }
}

// The wire's encoding as docs/wire.md and docs/wire/dht.md have it: canonical msgpack of arrays,
// integers, binary and text; tagged SHA-256; frames behind a 4-byte length.
import { createHash } from 'node:crypto'

const MAX_DEPTH = 8
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

// First byte and length bytes of each spelling, the shortest first: [below, code, bytes].
const NATURAL = [
  [2 ** 7, 0x00, 0], [2 ** 8, 0xcc, 1], [2 ** 16, 0xcd, 2], [2 ** 32, 0xce, 4], [2 ** 53, 0xcf, 8]
]
const NEGATIVE = [[2 ** 5, 0x100, 0], [2 ** 7, 0xd0, 1], [2 ** 15, 0xd1, 2], [2 ** 31, 0xd2, 4]]
const BINARY = [[2 ** 8, 0xc4, 1], [2 ** 16, 0xc5, 2]]
const TEXT = [[2 ** 5, 0xa0, 0], [2 ** 8, 0xd9, 1], [2 ** 16, 0xda, 2]]
const ARRAY = [[2 ** 4, 0x90, 0], [2 ** 16, 0xdc, 2]]

function head (table, size, value = size) {
  const [, code, width] = table.find(([below]) => size < below)
  if (width === 0) return Buffer.of((code + value) & 0xff)
  const bytes = Buffer.alloc(width)
  if (width === 8) bytes.writeBigUInt64BE(BigInt(value))
  else bytes[value < 0 ? 'writeIntBE' : 'writeUIntBE'](value, 0, width)
  return Buffer.concat([Buffer.of(code), bytes])
}

/** The canonical bytes of an integer, a text, a Uint8Array or an array of such. */
export function pack (value) {
  if (Number.isSafeInteger(value)) {
    return value < 0 ? head(NEGATIVE, -value - 1, value) : head(NATURAL, value)
  }
  if (typeof value === 'string') {
    const bytes = Buffer.from(value)
    return Buffer.concat([head(TEXT, bytes.length), bytes])
  }
  if (value instanceof Uint8Array) return Buffer.concat([head(BINARY, value.length), value])
  if (Array.isArray(value)) return Buffer.concat([head(ARRAY, value.length), ...value.map(pack)])
  throw new Error(`not of the wire: ${typeof value}`)
}

/** Parse one canonical array; anything else throws. */
export function unpack (raw) {
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength)
  let at = 0
  const take = count => {
    if (at + count > bytes.length) throw new Error('ends too early')
    at += count
    return bytes.subarray(at - count, at)
  }
  const number = width =>
    width === 8 ? Number(take(8).readBigUInt64BE()) : take(width).readUIntBE(0, width)
  const below = width => take(width).readIntBE(0, width)
  const parse = depth => {
    if (depth > MAX_DEPTH) throw new Error('is nested too deep')
    const code = number(1)
    const list = count => Array.from({ length: count }, () => parse(depth + 1))
    if (code < 0x80) return code
    if (code >= 0xe0) return code - 0x100
    if (code >= 0xa0 && code < 0xc0) return utf8.decode(take(code - 0xa0))
    if (code >= 0x90 && code < 0xa0) return list(code - 0x90)
    switch (code) {
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return number(1 << (code - 0xcc))
      case 0xd0: case 0xd1: case 0xd2: return below(1 << (code - 0xd0))
      case 0xc4: case 0xc5: return new Uint8Array(take(number(1 << (code - 0xc4))))
      case 0xd9: case 0xda: return utf8.decode(take(number(1 << (code - 0xd9))))
      case 0xdc: return list(number(2))
      default: throw new Error(`has the type ${code.toString(16)}`)
    }
  }
  const value = parse(0)
  if (!Array.isArray(value) || !pack(value).equals(bytes)) throw new Error('is not canonical')
  return value
}

/** The domain tag of a kind of thing on a network. */
export const tag = (network, kind) => Buffer.from(`p2pnode/${network}/${kind}/1\0`)

/** SHA-256 over bytes, one after the other. */
export const sha256 = (...parts) =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()

/** A payload behind its length. */
export function frame (payload) {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(payload.length)
  return Buffer.concat([length, payload])
}

/** The payloads of a stream's frames, each of 1 to `limit` bytes. */
export async function * frames (stream, limit) {
  let held = Buffer.alloc(0)
  for await (const chunk of stream) {
    held = Buffer.concat([held, chunk.subarray()])
    while (held.length >= 4) {
      const length = held.readUInt32BE()
      if (length < 1 || length > limit) throw new Error(`a frame of ${length} bytes`)
      if (held.length < 4 + length) break
      yield held.subarray(4, 4 + length)
      held = held.subarray(4 + length)
    }
  }
}

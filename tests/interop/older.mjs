// What js-libp2p 3 takes for granted and node before 22 lacks; imported before it.
import { webcrypto } from 'node:crypto'

globalThis.crypto ??= webcrypto // node 18

globalThis.CustomEvent ??= class extends Event { // node 18
  constructor (type, options = {}) {
    super(type, options)
    this.detail = options?.detail ?? null
  }
}

Promise.withResolvers ??= function () { // node 18, 20
  const made = {}
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}

/**
 * Bugs to be planted, one piece of production's text each: what the simulation must find within 500 seeds, or it proves
 * nothing. A test checks that each still applies.
 */

export interface Patch {
  file: string
  from: string
  to: string
}

export interface Bug {
  name: string
  /** What it breaks, in a sentence. */
  about: string
  patches: Patch[]
}

export const bugs: readonly Bug[] = [
  {
    name: 'no-fence',
    about: 'The commit statement does not compare epochs: a former owner goes on writing.',
    patches: [
      {
        file: 'engine/storage/commit-statement.ts',
        from: 'on s.shard_id = w.id and s.epoch = w.epoch\n     order by s.shard_id for share of s)`',
        to: 'on s.shard_id = w.id\n     order by s.shard_id for share of s)`',
      },
    ],
  },
  {
    name: 'no-stamp',
    about: 'After an unknown outcome the log is read without a fresh epoch: the old statement may still run.',
    patches: [
      {
        file: 'engine/storage/log-postgres.ts',
        from: 'return this.#ask(client => stamp(client, ordered, this.#options, this.#options.named))',
        to: 'return this.#ask(async client => (await client.query("select 1"), ordered))',
      },
    ],
  },
  {
    name: 'ack-early',
    about: 'Acks and facts leave when the statement is sent, not when it has returned.',
    patches: [
      {
        file: 'engine/actor/actor.ts',
        from: '    this.#flight = take\n    return take.contribution(this.id, this.shard, epoch)',
        to: '    this.#flight = take\n    for (const effect of take.effects) if (effect.kind === "answer") this.#perform(effect)\n    return take.contribution(this.id, this.shard, epoch)',
      },
    ],
  },
  {
    name: 'fan-out-early',
    about: 'Facts leave when the statement is sent, not when it has returned.',
    patches: [
      {
        file: 'engine/actor/actor.ts',
        from: '    this.#flight = take\n    return take.contribution(this.id, this.shard, epoch)',
        to: '    this.#flight = take\n    for (const effect of take.effects) if (effect.kind === "append") this.#perform(effect)\n    return take.contribution(this.id, this.shard, epoch)',
      },
    ],
  },
  {
    name: 'unknown-refused',
    about: 'A statement without an answer counts as not stored.',
    patches: [
      {
        file: 'engine/storage/classify.ts',
        from: "return { kind: 'unknown' }\n  if (/^(08",
        to: "return { kind: 'full' }\n  if (/^(08",
      },
    ],
  },
  {
    name: 'resume-off-by-one',
    about: 'A replay begins one event too late.',
    patches: [
      {
        file: 'engine/actor/join.ts',
        from: 'fetched.at(-1)?.seq ?? way.after',
        to: 'fetched.at(-1)?.seq ?? Math.min(state.head - 1, way.after + 1)',
      },
    ],
  },
  {
    name: 'no-drop',
    about: 'The hub passes on events that it has given already.',
    patches: [
      { file: 'gateway/hub.ts', from: 'if (!room || label.seq <= room.last) return', to: 'if (!room) return' },
      {
        file: 'gateway/rooms.ts',
        from: 'if (!room?.isAttached || fact.seq <= room.last) return',
        to: 'if (!room?.isAttached) return',
      },
      {
        file: 'gateway/rooms.ts',
        from: 'if (fact.seq <= seat.last || fact.seq > seat.until) return',
        to: 'if (fact.seq > seat.until) return\n    if (fact.seq <= seat.last) return void seat.peer.outbox.push(fact.frame)',
      },
    ],
  },
  {
    name: 'no-look-up',
    about: 'A replayed send is numbered without asking whether it is stored, and the index does not mind.',
    patches: [
      {
        file: 'engine/actor/actor.ts',
        from: 'const looksUp = isStoredHere || ((isYoung || isResent) && needsLookUp(command))',
        to: 'const looksUp = isStoredHere || (false && isYoung && isResent && needsLookUp(command))',
      },
      {
        file: 'load/sim/postgres-model.ts',
        from: "if (this.clients.has(client) || clients.has(client)) throw new SqlError('23505', 'event_client')",
        to: 'if (client === position) continue',
      },
    ],
  },
  {
    name: 'unfenced-memory',
    about: 'A worker that met a fence keeps its actors and their heads.',
    patches: [{ file: 'engine/worker.ts', from: 'actors.release(lost)', to: 'void lost' }],
  },
  {
    name: 'no-go-back',
    about: 'An owner takes later sends of a socket though it refused an earlier one.',
    patches: [
      {
        file: 'engine/server/relay.ts',
        from: 'const behind = isOrdered(l) ? link.order.arrive(l) : undefined',
        to: 'const behind = isOrdered(l) && l.age < 0 ? link.order.arrive(l) : undefined',
      },
    ],
  },
  {
    name: 'no-reattach',
    about: 'A gateway does not attach its conversations again when their shard moves.',
    patches: [
      {
        file: 'engine/client/engine.ts',
        from: 'attachments.renew(changes.filter(c => c.after).map(c => c.shard))',
        to: 'void changes',
      },
      { file: 'engine/client/engine.ts', from: '    attachments.renew(shards)\n', to: '' },
    ],
  },
  {
    name: 'shown-before-stored',
    about: 'Text of an answer is shown when it is handed to the journal.',
    patches: [
      {
        file: 'engine/actor/actor.ts',
        from: '    this.#flight = take\n    return take.contribution(this.id, this.shard, epoch)',
        to: '    this.#flight = take\n    for (const effect of take.effects) if (effect.kind === "delta") this.#perform(effect)\n    return take.contribution(this.id, this.shard, epoch)',
      },
    ],
  },
  {
    name: 'removed-still-told',
    about: 'A removed member goes on getting events.',
    patches: [
      {
        file: 'gateway/hub.ts',
        from: "if (type === 'room.member_left') leaver = label.subject",
        to: "if (type === 'room.member_gone') leaver = label.subject",
      },
      { file: 'gateway/rooms.ts', from: 'seat.until = fact.seq\n', to: 'void seat.until\n' },
    ],
  },
]

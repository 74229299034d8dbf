/**
 * Every limit of the product: a number, its unit last in the name, and why it is that number.
 * Rates are in engine/ops/config.ts terms multiplied by RATE_LIMIT_SCALE; sizes never are.
 */

// --- text and frames -------------------------------------------------------------------------------------------------
/** Code points in a message. Long enough for a page, short enough that a room stays readable. */
export const contentCharsMax = 4096
/** UTF-8 bytes in a message: 4096 four-byte characters fit. */
export const contentBytesMax = 16_384
/** A WebSocket message; the largest legal frame (16 KiB of text, every byte escaped as \u00XX) stays below it. */
export const frameBytesMax = 65_536
/** Fragments of one WebSocket message; more is an attack on the reassembly. */
export const frameFragmentsMax = 1000
/** Pongs that a socket may be owed: a burst of pings is counted (4429), only a flood beyond this is cut off. */
export const pongsPendingMax = 10_000
/** Nesting of a client's JSON; no legal frame needs more than 2. */
export const jsonDepthMax = 16
export const requestIdCharsMax = 64
export const traceIdCharsMax = 64
export const attachmentsMax = 10
export const emojiCharsMax = 16
export const titleCharsMax = 255
export const presenceWatchMax = 200
/** A REST body: a message with its JSON around it. */
export const restBodyBytesMax = 65_536

// --- sends, order, resume ----------------------------------------------------------------------------------------------
/** Unanswered sends of one socket to one conversation; beyond it RLIMIT. */
export const sendsPendingPerConversationMax = 256
export const sendsPendingPerSocketMax = 1024
export const sendsPendingPerSocketBytesMax = 4 * 1024 * 1024
export const sendsPendingPerGatewayBytesMax = 256 * 1024 * 1024
/** A resume replays at most this much; beyond it a client is cheaper served by pages of history. */
export const replayEventsMax = 2000
export const replayBytesMax = 1024 * 1024
/** A letter older than this never reaches the journal, so NOT_FOUND is final 12 s after a socket broke. */
export const letterAgeMsMax = 12_000
/** What waits is refused from this age on; actors are looked at once a second, so it is answered within letterAgeMsMax. */
export const refuseWaitingMs = 11_000
/** After a refusal for load, later sends of the pair are refused until the first id comes again or this much quiet. */
export const refusalQuietMs = 1000
/** Days back that a v7 clientMessageId may lie when it is not stored (IDEMPOTENCY_DAYS). */
export const idempotencyDaysDefault = 30

// --- sockets -----------------------------------------------------------------------------------------------------------
export const authTimeoutMs = 5000
/** Server pings; no pong or frame for twice this closes 4408. */
export const heartbeatMs = 15_000
export const silentMsMax = 30_000
/** Sockets are looked at this often: late authentication, ended sessions, silence, pings. */
export const sweepEveryMs = 250
/** A round that comes later than this was a pause of our own: nobody is called silent for it. */
export const sweepLateMs = 2000
/** Lines in the log about refused frames of one socket; what goes beyond is counted by a metric. */
export const refusalLinesPerSecondMax = 10
export const badFramesMax = 5
export const badFramesWindowMs = 10_000
export const framesPerSecondMax = 50
export const controlFramesPerSecondMax = 100
export const floodSecondsMax = 5
/** Removals of which a socket was told by its gateway, until the owner's own notice comes, which is then not told again. */
export const farewellsKeptMax = 100
export const floodWindowMs = 10_000
export const socketsPerUserMax = 10
export const socketsPerGatewayMax = 20_000
/** Beyond this unsent the server stops pushing to a socket and goes on from the log when it drains (R8). */
export const outboxPushBytesMax = 256 * 1024
/** Acks, errors, chat.done and conversation.* that wait as bytes for a slow socket (R8). */
export const outboxControlBytesMax = 256 * 1024
export const outboxStallMsMax = 30_000
/** What a lagging socket is caught up by in one read; it fits the limit above which nothing is pushed. */
export const catchUpBytesMax = 128 * 1024
export const catchUpEventsMax = 500
/** Readings of the log for rooms and slow sockets at a time; `ready` and REST must find a connection too. */
export const logReadsMax = 2
/** Stretches in one reading, each up to catchUpBytesMax. */
export const logStretchesMax = 32
/** Stretches of the log shared by sockets at the same place, each up to catchUpBytesMax, for this long. */
export const logReadsSharedMax = 64
export const logReadsSharedMs = 500
/** A burst of one turn above this is written at once, so that what is unsent is what the socket could not take. */
export const outboxBurstBytes = 64 * 1024
/** Frames that come before `ready` was sent wait; more than a page of them is no client of ours. */
export const heldFramesBytesMax = 256 * 1024
/** Facts of users that wait for a socket whose memberships are being read. */
export const heldUserFactsMax = 256
/** From the upgrade's credential to `ready`: a database that takes longer is away. */
export const readyMsMax = 5000
/** Request heads longer in lines than this are refused at the upgrade. */
export const upgradeHeadersMax = 100
export const closeReadableMs = 10_000
export const drainMsMax = 10_000
/** A leaving gateway closes so many sockets at once, then takes a breath: their clients come back elsewhere. */
export const closeBatchSockets = 500
export const closeBatchMs = 20
/** Conversations that `ready` lists in full; the rest come as ids and heads. */
export const readyConversationsMax = 200

// --- conversations -------------------------------------------------------------------------------------------------------
export const conversationsPerUserMax = 2000
export const groupMembersMaxDefault = 500
/** Rooms up to this size keep a receipt per member; larger ones count views. */
export const receiptMembersMax = 100
export const unreadMax = 100
export const typingMs = 5000
/** One typing frame per user and conversation in this time. */
export const typingRepeatMs = 2000
export const deliveredEveryMs = 1000
/** So many unanswered sends at a gateway, and what nobody waits for lets them pass: receipts of delivery, memberships read again, */
export const yieldLettersMin = 500
/** for so long. */
export const yieldMsMax = 2000
/** The same at a worker, for heads of an attach and flushes of positions. */
export const crowdedLettersMin = 200
export const crowdedLookMs = 50
export const receiptFlushMs = 10_000
/** Positions that a gateway remembers until they must be stored: 20 000 sockets, a few rooms each. */
export const positionsMax = 100_000
export const historyPageDefault = 50
export const historyPageMax = 100
export const eventsPageDefault = 100
export const eventsPageMax = 1000
/** The fourth equal text by one user in one conversation within the window is refused (scaled by RATE_LIMIT_SCALE). */
export const equalTextsMax = 3
export const equalTextsWindowMs = 30_000

// --- actors, journal, links ------------------------------------------------------------------------------------------------
export const shardCount = 256
export const mailboxLettersMax = 4096
export const mailboxLettersPerSenderMax = 256
/** Receipts and joins that wait for a conversation to be read. */
export const earlyCommandsMax = 1024
export const mailboxBytesMax = 8 * 1024 * 1024
export const mailboxBytesPerWorkerMax = 64 * 1024 * 1024
/** A waiting time above which new sends are refused while statements complete, */
export const admissionWaitMsMax = 200
/** once it stood for so long: a burst is stored before a refused send would be back. At twice the capacity this is 0.7 % of a minute. */
export const admissionStandsMs = 250
/** So long without such a wait, and the next one is a burst again. */
export const admissionCalmMs = 5000
/** What waited while shards had no owner comes in one go: about as long as the longest takeover of a killed process may take. */
export const admissionTakeoverMs = 3000
export const batchRowsMax = 256
export const batchBytesMax = 256 * 1024
/** From the start of a statement that carried several conversations to the start of the next, unless many wait already. */
export const commitPaceMs = 5
export const commitPaceSourcesMin = 2
export const commitPaceSourcesMax = 64
/** Texts of the commit statement that a connection prepares, one for each set of parts; each is some 100 kB of the server's memory. */
export const commitTextsMax = 64
/** Client-side timer of a commit statement; afterwards the outcome is unknown, never failed. */
export const commitTimerMs = 2000
export const recentIdsMax = 1000
/** Shared by a worker's resident actors: about 15 MB. An id that fell out costs a look at the unique index. */
export const recentIdsPerWorkerMax = 100_000
export const recentIdsMin = 16
/** An actor younger than this treats every letter as a resend: its ids are looked up before numbering. */
export const actorYoungMs = 15_000
/** An idle actor leaves memory after this; its state is one read away. */
export const actorIdleMs = 60_000
/** One of a conversation that does not exist remembers nothing: guessed ids must not fill a worker's memory. */
export const actorAbsentIdleMs = 5000
/** Events an actor keeps in memory to answer resumes without a read. */
export const tailEventsMax = 256
export const tailBytesMax = 256 * 1024
/** Shared by a worker's resident actors; what fell out is read from the log. */
export const tailBytesPerWorkerMax = 64 * 1024 * 1024
export const tailBytesMin = 4096
/** Of what a tail is made: chunks from a kilobyte for a quiet conversation up to this, each of so many events at most. */
export const tailChunkBytesMin = 1024
export const tailChunkBytesMax = 16_384
export const tailChunkEventsMax = 32
/** Fewer letters than this never make a gateway refuse a send because its worker is behind: two full batches. */
export const linkQueueLettersMin = 512
export const linkCreditBytes = 4 * 1024 * 1024
export const linkCreditLetters = 8192
/** A letter alone may exceed a batch (a group of thousands is created by one command); gRPC's own default. */
export const linkMessageBytesMax = 4 * 1024 * 1024
export const linkBatchBytesMax = 1024 * 1024
export const linkBatchLettersMax = 4096
/** While answers come by so many letters at once, commands wait for the next answer, at most so long, at most so many. */
export const linkBusyLettersMin = 6
export const linkHoldMs = 4
export const linkHoldLettersMax = 64
export const attachItemsMax = 1000
/** Conversations that the gateways of one worker may watch together; about 150 bytes each. */
export const interestItemsMax = 500_000
/** Gateways of one worker; each costs a socket and up to 4 MiB of unread facts. */
export const linksPerWorkerMax = 64
/** A silent link is asked after this, and cut when no answer came in linkSilentMs: a dead host is noticed within 7 s. */
export const linkKeepaliveMs = 5000
export const linkSilentMs = 2000
/** Answers that a gateway has not read (replays of joins, above all) before its next commands are refused. */
export const linkUnreadBytesMax = 64 * 1024 * 1024
/** From dialling to the peer's hello. */
export const linkConnectMs = 2000
export const linkBackoffMinMs = 50
export const linkBackoffMaxMs = 1000
/** A link to an address that no shard names any more is closed after this, time enough for its last answers. */
export const linkUnusedMs = 10_000
/** The route map counts as fresh this long after a successful read. */
export const mapFreshMs = 5000
/** Attempts of commands without an answer whose late error still finds its socket. */
export const looseAttemptsMax = 16_384
/**
 * A gateway keeps a send this long while it looks for an owner; one never forwarded is then UNAVAILABLE. Looked at every
 * quarter of a second, so that the answer comes within 12 s.
 */
export const holdMs = 11_750

// --- ownership timing --------------------------------------------------------------------------------------------------------
export const renewMs = 1500
export const leaseMs = 6000
export const selfFenceMs = 4500
/** An answer that waits for the lease to be renewed is looked at again after this. */
export const unprovedRetryMs = 100
export const observeExpiredMs = 4000
export const observeAnyMs = 8000
/** A round of the observer's own that comes later than this after the last starts its observations again. */
export const observeGapMsMax = 2000
export const mapPollMs = 1000
/** After its start a spare thread loads the modules of its task. */
export const spareLoadMs = 1500
export const workerStallMs = 2000
export const workerBeatMs = 100
/** Anyone but the computed owner waits this long before claiming an ownerless shard. */
export const claimStrangerMs = 3000
/** Shards move between living workers only after the membership stood still this long. */
export const membershipStableMs = 10_000
/** Shards of one node in hand-over at a time: each pauses its conversations for a moment. */
export const handOverShardsMax = 8
/** A thread that does not listen by then is stopped and started again; its imports take well under a second. */
export const workerStartMsMax = 20_000
/** Threads of one index that end this often within 5 s of their start: the process gives up and is started afresh. */
export const workerQuickDeathsMax = 5
/** A worker that is not reached for so long although its lease is renewed is suspected; said again every so often. */
export const suspectAfterMs = 10_000
export const suspectEveryMs = 5000
/** Two gateways that suspect the same engine within this allow burying it. */
export const suspicionWindowMs = 30_000
export const suspectReportersMin = 2
/** A gateway that reaches no owner for so long sends its clients elsewhere. */
export const cutOffMs = 10_000
/** Streams that a worker passes on to another for gateways that cannot reach it. */
export const hopsPerWorkerMax = 64
/** A link that goes over another worker looks this often whether the direct way is open again. */
export const hopProbeMs = 5000
/** A statement of a process's pool: its connection is given up and with it the statement. Our longest takes 0.3 s. */
export const poolQueryMsMax = 5000
/** How long /metrics waits for a thread before it answers without it. */
export const metricsWaitMs = 500
/** How long a leaving engine hands its shards over while another one is up; running turns may end meanwhile. */
export const handOverMsMax = 60_000
/** How often a leaving engine's threads say where turns still run: a shard moves this soon after its turn ended. */
export const busyEveryMs = 100
/** SIGTERM to exit of an engine that is the only one; the parent ends it by force a little later. */
export const engineDrainMsMax = 5000

// --- assistant ------------------------------------------------------------------------------------------------------------------
export const turnsQueuedMax = 5
export const turnsRunningPerUserMax = 2
/** A piece of an answer gathers for so long after the one before it was stored. */
export const deltaGatherMs = 40
/** Where many answers stream, or many people may watch one, it gathers longer: up to this, due at multiples of the grid. */
export const deltaGatherBusyMs = 80
export const deltaGridMs = 20
export const deltaBusyTurnsMin = 8
export const deltaBusyMembersMin = 100
export const answerBytesMax = 65_536
/** Deltas waiting for the journal above which the provider is no longer pulled. */
export const deltaBacklogBytesMax = 256 * 1024
export const connectTimeoutMs = 5000
export const firstTokenTimeoutMs = 20_000
export const idleTimeoutMs = 20_000
export const turnTimeoutMs = 180_000
export const upstreamRetriesMax = 2
export const upstreamRetryWindowMs = 30_000
/** A turn whose provider has no quota left asks again after what it was told, else after this, doubled each time. */
export const quotaRetryMs = 60_000
/** Not sooner, whatever it was told: each time costs a slot, two statements and a call. */
export const quotaRetryMsMin = 1000
/** Then it fails. */
export const quotaWaitMsMax = 3_600_000
/** A `retry-after` above this is not waited for within a turn. */
export const upstreamRetryAfterMsMax = 10_000
/** Bytes of one response of the model: 64 KiB of text in one-byte deltas of 250 bytes of JSON fit twice. */
export const upstreamBytesMax = 32 * 1024 * 1024
/** Bytes of a response that are read before anybody pulls them; then TCP pushes back. */
export const upstreamReadAheadBytesMax = 64 * 1024
/** How long the token counts may come after the finish reason; then they are estimated. */
export const usageWaitMs = 2000
/** The breaker opens when half of the last this many calls failed within the window, and stays open for a while. */
export const breakerCalls = 20
export const breakerWindowMs = 30_000
export const breakerOpenMs = 15_000
/** UTF-8 bytes of the operator's system prompt; it is sent with each turn. */
export const systemPromptBytesMax = 16_384
export const contextTokensMax = 8000
export const outputTokensMax = 1024
/** Events looked at for a turn's context; 8000 tokens rarely hold more messages. */
export const contextEventsMax = 400
/** How often a request that waits for an answer looks whether its turn waits for the model's quota. */
export const chatPostponedLookMs = 1000
/** A title is asked for so long after a turn was done: whoever writes again at once is not kept waiting by it. */
export const titleAskMs = 1000
export const titleTokensMax = 24
/** Characters of a question and of an answer that a title is made from, and of the title. */
export const titlePartCharsMax = 600
export const titleCharsShown = 80
/** Tokens of all turns in a day above this share of the ceiling: the log warns. */
export const budgetAlarmShare = 0.8
/** The store of budgets is asked so often, with pauses that double, before a turn fails or its cost stays as reserved. */
export const budgetTriesMax = 5
export const budgetRetryMs = 100
/** Pieces of an answer go this long after the answer is one message: whoever is reading them is done by then. */
export const segmentsKeptMs = 60_000
/** Ended turns of a worker whose pieces wait to go: what a thousand running turns leave in that time. */
export const segmentsRunsMax = 10_000
/** Pieces that one statement removes at most: some tens of ms. */
export const segmentsPurgedMax = 10_000
/** A turn without a free slot asks again after this, unless told before. */
export const slotRetryMs = 2000

// --- presence ---------------------------------------------------------------------------------------------------------------------
export const presenceTtlMs = 45_000
export const presenceBeatMs = 15_000
export const presenceRecheckMs = 60_000
/** People whose last visit a single gateway remembers. */
export const lastSeenKeysMax = 100_000
/** A hung store must cost nobody more than this, once. */
export const softCommandMs = 150
/** Each gateway says so often that it is there; one that did not for so long shares no rates any more. */
export const gatewayBeatMs = 5000
export const gatewayTtlMs = 15_000
/** What all gateways may grant of a rate before they have told each other, as a share of it. */
export const rateUntoldShare = 0.2
/** After a failed command none is tried for this long. */
export const softBreakerMs = 1000
/** Each gateway says so often that the store knows all its sockets: one small command. */
export const presencePulseMs = 1000
/** While that is missing for longer, absent people are unknown: two in a row and the way. */
export const presencePulseLateMs = 2200
/** Sockets whose coming or leaving waits for the store: all of a gateway. Beyond it beats and the time to live make it true. */
export const softOwedMax = 20_000

// --- accounts, REST -----------------------------------------------------------------------------------------------------------------
export const usernameCharsMin = 3
export const usernameCharsMax = 30
export const passwordCharsMin = 8
export const passwordCharsMax = 128
/** RFC 5321 allows no longer path. */
export const emailCharsMax = 254
export const displayNameCharsMax = 64
export const avatarUrlCharsMax = 512
/** bcrypt holds a thread of libuv's four while it works; two leave room for files and names. */
export const passwordsRunningMax = 2
/** At cost 12 and two at a time this is 20 s of waiting; more would only pile up. */
export const passwordsWaitingMax = 200
/** What the first failed login of an account waits for its answer; each further one in a row twice as long (÷ RATE_LIMIT_SCALE). */
export const loginDelayMs = 100
/** Long enough to be useless for guessing, short enough that the person themself is not sent away. */
export const loginDelayMsMax = 5000
/** A row of failures ends after so long without another. */
export const loginFailuresKeptMs = 900_000
/** An access token is about 400 characters; nothing near this is one of ours. */
export const accessTokenCharsMax = 4096
/** No access token lives longer, whatever is configured. */
export const accessTokenTtlSMax = 86_400
export const revocationPollMs = 2000
/** Sealed successors outlive their 10 s of grace by no more than this. */
export const sessionSweepMs = 30_000
/** A request whose body is not complete by then is answered 408. */
export const requestTimeoutMs = 15_000
/** How long a REST command waits for its answer before it is answered 503 with the outcome unknown. */
export const restAnswerMsMax = 15_000
/** Names given when a conversation is made. */
export const usernamesPerRequestMax = 1000
export const searchCharsMin = 2
export const searchCharsMax = 100
export const searchPageMax = 50
export const conversationsPageMax = 100
export const blocksPageMax = 100
/** Token buckets in memory; beyond it those least recently used go, which are full again or nearly so. */
export const limiterKeysMax = 100_000

// --- tools -----------------------------------------------------------------------------------------------------------------------------
export const taskTitleCharsMax = 256
export const taskDescriptionCharsMax = 2048
export const taskQueryCharsMax = 256
export const tasksPageDefault = 50
export const tasksPageMax = 100
/** A list that nobody can read any more; a program in a loop is stopped here. */
export const tasksPerUserMax = 10_000
/** How many of one's own titles are looked at for similar ones. */
export const tasksSimilarScanMax = 500
export const tasksSimilarMax = 3
/** A call with the same key gives the first result this long. */
export const toolKeyHours = 24
export const toolKeyCharsMax = 255
export const toolNameCharsMax = 128
export const toolCallIdCharsMax = 128
/** One call, from its start to its result. */
export const toolTimeoutMs = 10_000
/** Bytes of a result that reach the model and the log; the rest is cut. */
export const toolResultBytesMax = 32_768
/** Results of one turn that are shown to the model again with each round: four of the longest, the latest first. */
export const toolContextBytesMax = 131_072
/** Bytes of the arguments of one call: the longest title and description fit several times. */
export const toolArgumentsBytesMax = 65_536
export const toolRoundsMax = 8
/** Calls in one turn; a model that asks for more is ended with `tool_limit`. */
export const toolCallsPerTurnMax = 32
/** Calls of one turn that run at the same time. */
export const toolsParallelMax = 8
/** How long a request of the chat API waits for its answer: as long as a person may take to decide. */
export const chatWaitMsMax = 300_000
/** Requests of one gateway that follow a turn at the same time. */
export const chatListenersMax = 5000
/** Between two comments on a stream that is silent; proxies close after about a minute. */
export const chatHeartbeatMs = 15_000
/** A stopped turn waits so long for tools that are at work; a stop is told within a second. */
export const stopToolWaitMs = 700
/** How long a person may take to allow a call. */
export const approvalMsMax = 300_000

// --- tools of other servers ---------------------------------------------------------------------------------------------------------------
export const mcpServersMax = 16
/** Tools of one server; further ones are left out. */
export const mcpToolsMax = 64
/** Pages of a list of tools; a server that goes on for ever is not followed. */
export const mcpListPagesMax = 8
/** What providers take as the name of a function, with the server's name before it. */
export const mcpToolNameCharsMax = 64
export const mcpDescriptionCharsMax = 2048
export const mcpSchemaBytesMax = 16_384
/** Of all offers together: each request to the model carries them. */
export const mcpOffersBytesMax = 131_072
/** One message of a server: a result of 10 MB is read and cut, a longer one ends the connection. */
export const mcpMessageBytesMax = 16_777_216
/** Calls at one server at the same time; more are refused at once. */
export const mcpCallsMax = 32
/** From the start of a server to its list of tools. */
export const mcpConnectMs = 10_000
/** One HTTP request to a server: a call and a little more. */
export const mcpRequestMs = 15_000
/** Pause before a server is tried again; doubles up to the maximum. */
export const mcpRetryMs = 1000
export const mcpRetryMsMax = 60_000
/** Between two readings of a list that a server says has changed, and of what an operator has accepted. */
export const mcpRelistMs = 5000
/** Heap of the thread that speaks with other servers. */
export const mcpHeapMb = 256
/** What is kept of a server's complaints, for the log line that says that it ended. */
export const mcpStderrCharsMax = 1000

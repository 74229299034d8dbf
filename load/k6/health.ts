/** The health check of an engine's worker over gRPC, as a balancer asks it, all the time. */
import { check, sleep } from 'k6'
import grpc from 'k6/net/grpc'
import { sized } from './lib.ts'

const client = new grpc.Client()
client.load(['.'], 'health.proto')

export const options = {
  scenarios: { health: { executor: 'constant-vus', vus: sized(20, 3), duration: sized('1m', '3s') } },
  thresholds: { checks: ['rate==1'], grpc_req_duration: ['p(95)<1000'] },
}

export default function () {
  if (__ITER === 0) client.connect(__ENV.GRPC, { plaintext: true })
  const answer = client.invoke('grpc.health.v1.Health/Check', {})
  check(answer, { serving: r => r.status === grpc.StatusOK && r.message.status === 'SERVING' })
  sleep(0.02)
}

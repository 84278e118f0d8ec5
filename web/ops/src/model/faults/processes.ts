/** Roles that nobody runs any more, loops that have stopped, processes that say nothing. */
import { commandRoles, DRAWN, standingOf, type DrawnRole } from '../roles.ts';
import { segmentsOf, shortened, type Fault, type View } from './fault.ts';

const LOST: Record<DrawnRole, { title: string; effect: string; runbook: string }> = {
  gateway: { title: 'The gateway', effect: 'so nobody can connect', runbook: 'a-process-is-not-ready' },
  persister: { title: 'The persister', effect: 'so accepted messages wait in Kafka', runbook: 'the-persister-has-stopped' },
  cdc: { title: 'The CDC worker', effect: 'so nothing is published', runbook: 'no-cdc-worker-streams' },
  publisher: { title: 'The publisher', effect: 'so people see new messages only once a heartbeat', runbook: 'the-publisher-is-behind' },
  projector: { title: 'The projector', effect: 'so chat lists, unread counts and receipts stand still', runbook: 'a-projection-has-stopped' },
  notifier: { title: 'The notifier', effect: 'so nobody who is away is told', runbook: 'the-notifier-has-stopped' },
  operators: { title: 'The role operators', effect: 'so chat.activity and chat.abuse stand still', runbook: 'stream-operators-have-stopped' },
};

/** A role that ran and that nobody runs any more. */
export function roleLost(view: View): Fault | null {
  const { now } = view.window;
  const lost = DRAWN.map((role) => ({ role, standing: standingOf(now, role) })).filter(({ standing }) => standing.isKnown && !standing.runs);
  const [first] = lost;
  const gone = first?.standing.lost;
  if (!first || !gone) return null;
  const { role } = first;
  const { address, hasEnded, problem } = gone;
  // A projector whose projection met a poison isn't healthy: that rule knows more.
  if (role === 'projector' && view.problems.some(({ cause }) => cause.kind === 'projection')) return null;
  const { title, effect, runbook } = LOST[role];
  const why = hasEnded ? `has stopped at ${address} (${shortened(problem)})` : `has stopped: ${address} doesn’t answer`;
  const same = lost.filter(({ standing: other }) => other.lost?.address === address).map(({ role: other }) => other);
  const command = role === 'cdc' && hasEnded ? 'waltalkie cdc status' : `waltalkie run ${same.join(' ')}`;
  return { segments: segmentsOf(role), sentence: `${title} ${why}, ${effect}: run \`${command}\`.`, runbook };
}

export function projectionStopped(view: View): Fault | null {
  const stopped = view.problems.map(({ cause }) => cause).find((cause) => cause.kind === 'projection');
  if (!stopped) return null;
  const { projection, another } = stopped;
  // Its rows may be the only copy: nobody is told to make them again before they have read what that takes.
  if (another === 'log' && projection === 'cursor') {
    return {
      segments: ['projector'],
      sentence:
        'The projector’s cursor stands still before rows that another log made, and they may be the only copy: see with `waltalkie config` whether kafka.brokers is the right one, and don’t rebuild before you have read the runbook.',
      runbook: 'a-projection-has-stopped',
    };
  }
  if (another !== null) {
    return {
      segments: ['projector'],
      sentence: `The projector’s ${projection} stands still before rows that another ${another} made: run \`waltalkie rebuild ${projection}\`.`,
      runbook: 'a-projection-has-stopped',
    };
  }
  const place = stopped.place ? ` at a record that it can’t use (${stopped.place})` : '';
  return {
    segments: ['projector'],
    sentence: `The projector’s ${projection} has stopped${place}, and its read model stands still: run \`waltalkie schemas check\`.`,
    runbook: 'a-projection-has-stopped',
  };
}

export function processSilent(view: View): Fault | null {
  const silent = view.window.now.processes.find(({ answers }) => !answers);
  if (!silent) return null;
  const roles = commandRoles(silent.roles);
  const [first] = roles;
  return {
    segments: segmentsOf(first ?? ''),
    sentence:
      first === undefined
        ? `The process at ${silent.address} doesn’t answer and never has: look at \`ops.peers\` with \`waltalkie config\`.`
        : `The process at ${silent.address} (${roles.join(', ')}) doesn’t answer, and others do its work: run \`waltalkie run ${roles.join(' ')}\` there.`,
    runbook: 'a-process-is-not-ready',
  };
}

/** A role with a problem of its own, or one that still isn't ready at the second look. */
export function notReady(view: View): Fault | null {
  for (const { address, answers, roles } of view.window.now.processes) {
    const before = view.window.before?.processes.find((process) => process.address === address);
    for (const { role, is_ready, problem } of roles) {
      if (!answers || is_ready) continue;
      const wasReady = before?.roles.find((status) => status.role === role)?.is_ready ?? true;
      const isStarting = problem === undefined || /^(\S+: starting(; |$))+$/.test(problem);
      if (isStarting && wasReady) continue;
      return {
        segments: segmentsOf(role),
        sentence: `The ${role} at ${address} isn’t ready (${shortened(problem ?? 'still starting')}): run \`waltalkie doctor\`.`,
        runbook: 'a-process-is-not-ready',
      };
    }
  }
  return null;
}

import { runGoal } from '../harness/goal.js';
import { callbackSurface } from './input/callback.js';
import { configurationSurface, keyringSurface, routesSurface } from './input/configuration.js';
import { authorizationSurface, fieldsSurface } from './input/headers.js';
import { bearerSurface, logoutSurface } from './input/jwts.js';
import { knownBadSurfaces } from './input/knownBad.js';
import { cookieSurface, originSurface, returnToSurface } from './input/requests.js';
import { pathSurface } from './input/requestTargets.js';
import { storedSurface } from './input/stored.js';
import { Judge, type Surface } from './input/trial.js';

const CASES = 200_000;
const FULL_CASES = 5_000_000;
const CONTROL_CASES = 3_000;

await runGoal('B2', async ({ random, full, progress }) => {
  // Refusals are looked at by class, code and message; collecting their stacks would take most of the time.
  Error.stackTraceLimit = 0;
  const callback = await callbackSurface(random);
  const surfaces: Surface[] = [
    cookieSurface(random),
    originSurface(random),
    returnToSurface(random),
    pathSurface(random),
    fieldsSurface(random),
    authorizationSurface(random),
    storedSurface(random),
    keyringSurface(random),
    routesSurface(random),
    configurationSurface(random),
    bearerSurface(random),
    logoutSurface(random),
    callback,
  ];
  const judge = new Judge();
  const total = full ? FULL_CASES : CASES;
  const weights = surfaces.reduce((sum, { weight }) => sum + weight, 0);
  for (const [index, surface] of surfaces.entries()) {
    const share =
      index === surfaces.length - 1
        ? total - judge.total('cases')
        : Math.round((total * surface.weight) / weights);
    for (let i = 0; i < share; i++) {
      await judge.put(surface.name, await surface.next());
      progress(
        () =>
          `${surface.name}: ${i + 1} of ${share}; ${judge.total('cases')} cases, ${judge.total('crashes')} crashes, ${judge.total('slow')} slow, ${judge.total('wronglyAccepted')} wrong`,
      );
    }
  }
  await callback.close();

  const control = new Judge();
  for (const [name, knownBad] of Object.entries(knownBadSurfaces(random))) {
    for (let i = 0; i < CONTROL_CASES; i++) await control.put(name, await knownBad.next());
    progress(() => `control, ${name}: ${control.bySurface[name]?.wronglyAccepted ?? 0} wrong`);
  }

  const [crashes, slow, wronglyAccepted] = [
    judge.total('crashes'),
    judge.total('slow'),
    judge.total('wronglyAccepted'),
  ];
  // A surface that refuses everything would prove nothing.
  const alive = Object.values(judge.bySurface).every(({ accepted }) => accepted > 0);
  const controls = Object.fromEntries(
    Object.entries(control.bySurface).map(([name, result]) => [name, result.wronglyAccepted]),
  );
  const caught = Object.values(controls).every((wrong) => wrong > 0);
  for (const result of Object.values(judge.bySurface))
    result.slowestMs = Math.round(result.slowestMs * 10) / 10;
  return {
    passed:
      crashes === 0 &&
      slow === 0 &&
      wronglyAccepted === 0 &&
      caught &&
      alive &&
      judge.total('cases') === total,
    cases: judge.total('cases'),
    crashes,
    slow,
    wronglyAccepted,
    bySurface: judge.bySurface,
    caught,
    controls,
    ...(judge.findings.length > 0 ? { findings: judge.findings } : {}),
  };
});

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const DEPLOY = join(import.meta.dirname, '../../../deploy');

/** A metric that a query asks for, with the labels that it selects by. */
export interface Asked {
  name: string;
  labels: string[];
  query: string;
}

/** Names that Prometheus, not the gateway, gives. */
const SCRAPER = { metrics: ['up'], labels: ['job', 'instance'] };

/** What the panels of the dashboard and the expressions of the alerts ask for. */
export function askedMetrics(): Asked[] {
  const { panels } = JSON.parse(readFileSync(join(DEPLOY, 'grafana/dashboard.json'), 'utf8')) as {
    panels: { targets: { expr: string }[] }[];
  };
  const rules = readFileSync(join(DEPLOY, 'prometheus/alert-rules.yaml'), 'utf8');
  const expressions = [...rules.matchAll(/^ +expr: (.*(?:\n {10,}.*)*)/gm)];
  return [
    ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
    ...expressions.map(([, expression = '']) => expression),
  ].flatMap(metricsOf);
}

/** The metrics of one PromQL expression; labels of `by (…)` count for each of them. */
export function metricsOf(query: string): Asked[] {
  const grouped = [...query.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names = '']) =>
    names.split(', '),
  );
  return [...query.matchAll(/\b(up|(?:session_gateway|nodejs|process)_\w+)(?:\{([^}]*)\})?/g)]
    .filter(([, name = '']) => !SCRAPER.metrics.includes(name))
    .map(([, name = '', selectors = '']) => ({
      name,
      labels: [
        ...grouped,
        ...[...selectors.matchAll(/(\w+)[=!]/g)].map(([, label = '']) => label),
      ].filter((label) => !SCRAPER.labels.includes(label)),
      query,
    }));
}

/** The labels that `/metrics` shows for each metric; null where it has no sample yet. */
export function shownMetrics(text: string): Map<string, Set<string> | null> {
  const shown = new Map<string, Set<string> | null>();
  for (const [, name = '', type = ''] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm))
    for (const suffix of type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''])
      shown.set(name + suffix, null);
  for (const [, name = '', labels = ''] of text.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
    const known = shown.get(name) ?? new Set<string>();
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) known.add(label);
    shown.set(name, known);
  }
  return shown;
}

/** The metrics and labels that are asked for and not shown. */
export function missingMetrics(asked: readonly Asked[], text: string): string[] {
  const shown = shownMetrics(text);
  return asked.flatMap(({ name, labels, query }) => {
    const known = shown.get(name);
    if (known === undefined) return [`${name} in ${query}`];
    if (known === null) return [];
    return labels
      .filter((label) => !known.has(label))
      .map((label) => `${name}{${label}} in ${query}`);
  });
}

/** Asks somebody, and notes the class of the status that came back; `failed` when none did. */
export async function notingOutcome<Answer>(
  note: (outcome: string) => void,
  ask: () => Promise<Answer>,
  statusOf: (answer: Answer) => number,
): Promise<Answer> {
  let outcome = 'failed';
  try {
    const answer = await ask();
    outcome = `${Math.floor(statusOf(answer) / 100)}xx`;
    return answer;
  } finally {
    note(outcome);
  }
}

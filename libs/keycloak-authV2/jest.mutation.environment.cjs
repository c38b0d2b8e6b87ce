const { TestEnvironment } = require('jest-environment-node');

/** Skips what is left of a file once a test in it has failed: that the mutant is noticed is known by then. */
module.exports = class extends TestEnvironment {
  #failed = false;

  handleTestEvent(event) {
    if (event.name === 'test_fn_failure') this.#failed = true;
    if (event.name === 'test_start' && this.#failed) event.test.mode = 'skip';
  }
};

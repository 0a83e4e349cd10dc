/**
 * Kills and restores under load, many of them. REGAIN_TEST_SEED repeats who is killed when and what is restored, not how far
 * the writers were by then; see the test for what else can be chosen.
 */
process.env.REGAIN_SOAK_CYCLES ??= '30'

await import('../e2e/postgres-torture.test.ts')

/**
 * The engine's fault tests with many more rounds, and with each call and object where the suite takes some.
 * REGAIN_TEST_SEED repeats a failed one.
 */
process.env.REGAIN_SOAK_ROUNDS ??= '400'
process.env.REGAIN_SOAK_SECONDS ??= '600'
process.env.REGAIN_SOAK_FLIPS ??= '150'
process.env.REGAIN_SOAK_INTERLEAVINGS ??= '10000'

await import('../fault/kill.test.ts')
await import('../fault/kill-at-calls.test.ts')
await import('../fault/two-processes.test.ts')
await import('../fault/storage-faults.test.ts')
await import('../fault/damage.test.ts')
await import('../fault/prune-damage.test.ts')
await import('../fault/prune-refusals.test.ts')
await import('../fault/sleepers.test.ts')
await import('../fault/broken-promises.test.ts')
await import('../fault/clocks.test.ts')
await import('../fault/interleavings.test.ts')

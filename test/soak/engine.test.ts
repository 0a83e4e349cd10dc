/** The engine's fault tests with many more rounds. REGAIN_TEST_SEED repeats a failed one. */
process.env.REGAIN_SOAK_ROUNDS ??= '400'
process.env.REGAIN_SOAK_FLIPS ??= '150'
process.env.REGAIN_SOAK_INTERLEAVINGS ??= '10000'

await import('../fault/kill.test.ts')
await import('../fault/storage-faults.test.ts')
await import('../fault/damage.test.ts')
await import('../fault/interleavings.test.ts')

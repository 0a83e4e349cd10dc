/*
 * Removal of a point on purpose, what keeps it, and what explains it afterwards (docs/format.md, Collectors), for spin. One step is
 * one call of the store; a process may stop for ever or wake up late anywhere. scripts/model runs it.
 *
 * There is one point that counts. NX expiries want it gone, NH people hold it, NV prunes want it kept and clear away what
 * expiries left that died, NW writers commit a point that follows it, NL cleanings forget it. M_… are mistakes that must be found.
 */
#ifndef NX
#define NX 2
#endif
#ifndef NH
#define NH 1
#endif
#ifndef NV
#define NV 0
#endif
#ifndef NW
#define NW 0
#endif
#ifndef NL
#define NL 0
#endif
#define IN(set, i) (((set) >> (i)) & 1)
/* Whether a record tells which commit it was that a point follows. */
#ifdef M_LAST_SPEAKS
/* The last of two for both. */
#define NAMED (IN(records, 1) -> !IN(blank, 1) : IN(records, 0) && !IN(blank, 0))
#else
#define NAMED ((records & ~blank) != 0)
#endif

bool session = 1;
bool end = 1;
bool receipt = 1;
byte records = 0;     /* of its expiry: each expiry has its own */
byte blank = 0;       /* those that name no commit: there was none to be found any more */
byte dead = 0;        /* expiries that are known to be, */
byte over = 0;        /* and nothing of what they asked for can still be carried out */
bool held = 0;
byte granted = 0;     /* holds that were told as such and not released */
bool gone = 0;        /* it does not count any more */
byte open = 0;        /* writers' sessions without an end */
byte follows = 0;     /* points that count and name this one */
hidden byte x_;

/* Nothing is called lost that was removed on purpose, and what was granted stays. */
inline check() {
  assert(!granted || (session && end && held));
  gone = gone || !session || !end;
  assert(!gone || records || !receipt);
  assert(!gone || NAMED || !follows)
}

proctype Expiry(byte i) {
  byte n;
  bool found;
#ifdef M_LOOKS_ONCE
  if :: held -> goto done :: else fi;
#endif
#ifdef M_SHARED
  /* One record for all: the second takes the first one's for its own. */
  n = 0;
#else
  n = i;
#endif
  found = end;
  if :: !found -> found = receipt :: else fi;
  d_step { records = records | (1 << n); blank = blank | (!found << n); check() };
#ifndef M_LOOKS_ONCE
  if
  :: d_step { held && session -> skip };
     d_step { records = records & ~(1 << n); check() };
     goto done
  :: else
  fi;
#endif
  /* It dies here and everybody knows, with its last call still on its way; or it goes on. */
  if
  :: dead = dead | (1 << i);
     if :: d_step { session = 0; check() } :: skip fi;
     over = over | (1 << i);
     goto done
  :: skip
  fi;
  d_step { session = 0; check() };
  d_step { end = 0; check() };
  d_step { receipt = 0; check() };
done:
  skip
}

proctype Holder(byte j) {
  bool mine = 0;
  byte seen;
again:
  skip;
#ifdef M_LOOKS_FIRST
  seen = records;
  if :: seen != 0 -> goto done :: else fi;
#endif
  d_step { if :: !held -> held = 1; mine = 1 :: else fi };
#ifdef M_TRUSTS_ANOTHER
  /* There is one: somebody else saw to it. */
  if :: !mine -> d_step { granted = granted | (1 << j); check() }; goto done :: else fi;
#endif
#ifndef M_LOOKS_FIRST
  seen = records;
  if
  :: seen != 0 ->
#ifdef M_TAKES_BACK
     if :: mine -> held = 0 :: else fi;
#endif
     goto done /* told that it may be too late; the hold stays */
  :: else
  fi;
#endif
  if
  :: d_step { session && end -> granted = granted | (1 << j); check() }
  :: d_step { !session || !end -> skip }; held = 0; goto done
  fi;
#if NH == 1
  /* Released, and maybe wanted again. (With several, a release counts as after whatever hold it meets.) */
  if
  :: d_step { held = 0; granted = 0 }; goto again
  :: skip
  fi;
#endif
done:
  skip
}

/* Takes back the record of an expiry that died before it removed anything. */
proctype Keeper() {
  byte stale;
#if defined(M_LIVING_TOO)
  stale = records;
#elif defined(M_DEAD_AT_ONCE)
  stale = records & dead;
#else
  stale = records & over;
#endif
  if :: d_step { session && end -> skip } :: else -> goto done fi;
  d_step { records = records & ~stale; check() };
done:
  skip
}

proctype Writer(byte w) {
  bool named = 0;
  d_step { open = open | (1 << w) };
  d_step { named = session && end };
  if :: !named -> d_step { open = open & ~(1 << w) }; goto done :: else fi;
  /* A receipt that its writer left to the next one. */
  if :: d_step { records == 0 && !receipt && session && end -> skip }; d_step { receipt = 1; check() } :: skip fi;
  d_step { follows = follows | (1 << w); open = open & ~(1 << w); check() };
  /* And expires itself some day. */
  if :: d_step { follows = follows & ~(1 << w) } :: skip fi;
done:
  skip
}

proctype Cleaning() {
  byte seen;
#ifdef M_POINTS_FIRST
  seen = follows;
  if :: seen != 0 -> goto done :: else fi;
  if :: d_step { !session && open == 0 -> skip } :: else -> goto done fi;
#else
#ifdef M_ITSELF_LAST
  seen = open;
  if :: seen != 0 -> goto done :: else fi;
#else
  /* One listing of sessions: it is gone, so nobody who begins later follows it, and nobody is at work. */
  if :: d_step { !session && open == 0 -> skip } :: else -> goto done fi;
#endif
  seen = follows;
  if :: seen != 0 -> goto done :: else fi;
#ifdef M_ITSELF_LAST
  if :: d_step { !session -> skip } :: else -> goto done fi;
#endif
#endif
  if :: d_step { !end -> skip } :: else -> goto done fi;
#ifndef M_RECEIPT_LEFT
  if :: d_step { !receipt -> skip } :: else -> goto done fi;
#endif
  d_step { records = 0; check() };
done:
  skip
}

init {
  byte k;
  atomic {
    k = 0; do :: k < NX -> run Expiry(k); k++ :: else -> break od;
    k = 0; do :: k < NH -> run Holder(k); k++ :: else -> break od;
    k = 0; do :: k < NV -> run Keeper(); k++ :: else -> break od;
    k = 0; do :: k < NW -> run Writer(k); k++ :: else -> break od;
    k = 0; do :: k < NL -> run Cleaning(); k++ :: else -> break od;
    k = 0
  }
}

/*
 * Removal of log on purpose, beside copies of points that need that log (docs/format.md, Log), for spin. One step is one call of
 * the store; a process may stop for ever or wake up late anywhere. scripts/model runs it.
 *
 * There is one object of log, which no point needs at first. NT trimmers remove it; NC copiers each bring it, and a point that
 * needs it, from another repository. M_… are mistakes that must be found.
 */
#ifndef NT
#define NT 2
#endif
#ifndef NC
#define NC 1
#endif
#define IN(set, i) (((set) >> (i)) & 1)

bool log = 1;
bool missed = 0;      /* it was there, and went: verification asks why */
byte pending = 0;     /* records of trimmers that may still delete, by trimmer */
byte finished = 0;    /* records of those that do not, by who put them */
byte dead = 0;        /* trimmers that are known to be, */
byte over = 0;        /* and nothing of what they asked for can still be carried out */
byte sess = 0;        /* sessions, by copier */
byte ended = 0;       /* those with an end, */
byte commits = 0;     /* which is a commit */

inline check() {
  assert((sess & commits) == 0 || log);
  assert(log || !missed || pending || finished)
}

proctype Trimmer(byte i) {
  byte weighed, open, older, others;
  bool there;
  /* What the policy weighed; a point that counts needs the log. */
  weighed = sess & commits;
  if :: weighed != 0 -> goto done :: else fi;
  skip;
#ifdef M_SESSIONS_FIRST
  open = sess;
  open = open & ~ended;
#endif
#ifdef M_POINTS_FIRST
  weighed = commits;
  weighed = weighed & sess;
#endif
#ifndef M_RECORD_LAST
  d_step { pending = pending | (1 << i); check() };
#endif
#ifndef M_SESSIONS_FIRST
  open = sess;
  open = open & ~ended;
#endif
  if :: open != 0 -> goto back :: else fi;
#ifndef M_POINTS_FIRST
  weighed = commits;
  weighed = weighed & sess;
#endif
  if :: weighed != 0 -> goto back :: else fi;
  there = log;
#ifdef M_DONE_TOO_EARLY
  d_step { finished = finished | (1 << i); check() };
  d_step { pending = pending & ~(1 << i); check() };
#endif
  /* It dies here and everybody knows, with its last call still on its way; or it goes on. */
  if
  :: dead = dead | (1 << i);
     if :: there -> d_step { log = 0; missed = 1; check() } :: skip fi;
     over = over | (1 << i);
     goto done
  :: skip
  fi;
  if
  :: there -> d_step { log = 0; missed = 1; check() }
  :: else
  fi;
#ifdef M_RECORD_LAST
  d_step { pending = pending | (1 << i); check() };
#endif
#ifndef M_DONE_TOO_EARLY
  older = finished;
  others = pending & over;
#ifdef M_OLDER_FIRST
  d_step { finished = finished & ~older; check() };
  d_step { pending = pending & ~(1 << i); check() };
  d_step { finished = finished | (1 << i); check() };
#else
  d_step { finished = finished | (1 << i); check() };
  d_step { finished = finished & ~(older & ~(1 << i)); check() };
#ifdef M_TAKES_OVER
  d_step { pending = 0; check() };
#else
  d_step { pending = pending & ~(others | (1 << i)); check() };
#endif
#endif
#endif
  goto done;
back:
  skip;
  /* Nothing was deleted. */
  d_step { pending = pending & ~(1 << i); check() };
done:
  skip
}

proctype Copier(byte c) {
  bool there;
  /* As far as it goes; nothing counts on it yet. */
  if :: log = 1 :: skip fi;
  d_step { sess = sess | (1 << c) };
#if defined(M_DEAD_AT_ONCE)
  if :: (pending & ~dead) != 0 -> goto done :: else fi;
#elif !defined(M_PENDING_IGNORED)
  if :: (pending & ~over) != 0 -> goto done :: else fi;
#endif
#ifndef M_NOT_AGAIN
  there = log;
  if :: !there -> log = 1 :: else fi;
#endif
  d_step {
    if :: !IN(ended, c) -> ended = ended | (1 << c); commits = commits | (1 << c) :: else fi;
    check()
  };
done:
  skip
}

init {
  byte k;
  atomic {
    k = 0; do :: k < NT -> run Trimmer(k); k++ :: else -> break od;
    k = 0; do :: k < NC -> run Copier(k); k++ :: else -> break od;
    k = 0
  }
}

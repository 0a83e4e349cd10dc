/*
 * Removal without locks and clocks (docs/format.md, Writers, Readers, Collectors), for spin. One step is one call of the
 * store; a process may stop for ever or wake up late anywhere, which is what interleaving means. scripts/model runs it.
 *
 * Sizes come by -D: NW writers with ATT sessions each, NC collectors with ROUNDS, NR readers, NX expiries, NL cleanings,
 * NP repacks, NM index merges, NK losses of all generations, each with a repair, NCH chunks, MAXP pack names, MAXG generations. Session
 * 0 is a point that is there at the start.
 * What a collector marks is left to chance, so that nothing rests on a first mark. M_… are mistakes that must be found.
 */
#ifndef NW
#define NW 1
#endif
#ifndef ATT
#define ATT 1
#endif
#ifndef NC
#define NC 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef NR
#define NR 0
#endif
#ifndef NX
#define NX 1
#endif
#ifndef NL
#define NL 0
#endif
#ifndef NP
#define NP 0
#endif
#ifndef NM
#define NM 0
#endif
#ifndef NK
#define NK 0
#endif
#ifndef NCH
#define NCH 1
#endif
#ifndef MAXP
#define MAXP 3
#endif
#ifndef MAXG
#define MAXG 3
#endif
#define NS (1 + NW * ATT)
/* Of the generation that a repair makes: beyond what any collector that read a lost one can make. */
#if NK > 0
#define FAR (MAXG - 2)
#else
#define FAR MAXG
#endif
#define MAXI (MAXP + NM)
#define IN(set, i) (((set) >> (i)) & 1)
#define ALL ((1 << NCH) - 1)

byte pc[MAXP];          /* chunks of a pack; 0: the name was never used */
byte packs = 1;         /* that exist */
byte segs = 1;          /* index segments that exist */
byte seg[MAXI];         /* packs that a segment names */
byte nextSegment = 1;
byte gens = 1;          /* generations that exist */
byte T[MAXG];           /* their tombstones */
byte whole = 0;         /* those that mark every pack that is there when they are read */
byte sess = 1;          /* sessions that exist */
byte ended = 1;         /* those with an end, */
byte commits = 1;       /* which is a commit */
byte expired = 0;       /* with a record of their expiry */
byte told = 1;          /* success was reported */
byte sgen[NS];          /* generation that a session names */
byte content[NS];       /* chunks of its point */
byte reading = 0;       /* by reader: has verified its point */
byte pinned = 0;        /* by reader: its pin exists */
#if NR > 0
byte pin[NR];           /* point that it names */
#endif

/* Sets of packs to be computed with; nobody's state between steps. */
hidden byte i_; hidden byte c_; hidden byte have_; hidden byte index_; hidden byte x_;

inline indexNow() { index_ = 0; i_ = 0; do :: i_ < MAXI -> if :: IN(segs, i_) -> index_ = index_ | seg[i_] :: else fi; i_++ :: else -> break od; skip }
inline chunksOf(set) { have_ = 0; i_ = 0; do :: i_ < MAXP -> if :: IN(set, i_) -> have_ = have_ | pc[i_] :: else fi; i_++ :: else -> break od; skip }
inline newest(g) { g = MAXG - 1; do :: !IN(gens, g) && g > 0 -> g-- :: else -> break od; skip }

/* Every point that counts, and every point that is being read, has an indexed copy of each of its chunks. */
inline check() {
  indexNow(); chunksOf(packs & index_);
  i_ = 0;
  do
  :: i_ < NS ->
     assert(!(IN(sess, i_) && IN(commits, i_)) || (content[i_] & ~have_) == 0);
     assert(!IN(told, i_) || IN(expired, i_) || (IN(sess, i_) && IN(commits, i_)));
     i_++
  :: else -> break
  od;
#if NR > 0
  i_ = 0;
  do :: i_ < NR -> assert(!IN(reading, i_) || (content[pin[i_]] & ~have_) == 0); i_++ :: else -> break od;
#endif
  skip
}

/* A name that was never used, or MAXP. */
inline freshPack(p) { p = 0; do :: p < MAXP && pc[p] != 0 -> p++ :: else -> break od; skip }

inline putIndex(set) { seg[nextSegment] = set; segs = segs | (1 << nextSegment); nextSegment++ }

proctype Writer(byte first) {
  byte s, g, t, usable, want, need, p, attempt = 0;
start:
  if :: attempt == ATT -> goto done :: else fi;
#ifdef M_WRITER_LISTS_FIRST
  usable = packs;
#endif
  d_step { s = first + attempt; attempt++; newest(g) };
  d_step { sess = sess | (1 << s); sgen[s] = g };
#ifndef M_ONE_LOOK
  d_step { newest(t) };
  if :: t != g -> d_step { sess = sess & ~(1 << s) }; goto start :: else fi;
#endif
  if
  :: d_step { IN(gens, g) -> t = T[g] }; if :: IN(whole, g) -> t = packs :: else fi
  :: d_step { !IN(gens, g) -> sess = sess & ~(1 << s) }; goto start
  fi;
#ifdef M_WRITER_LISTS_FIRST
  atomic {
    indexNow(); usable = usable & index_ & ~t;
#else
  d_step { indexNow(); usable = index_ & ~t };
  atomic {
    usable = usable & packs;
#endif
    select(want : 1 .. ALL);
    chunksOf(usable); need = want & ~have_; usable = 0; t = 0
  };
  if
  :: need == 0
  :: need != 0 ->
     atomic {
       freshPack(p);
       if :: p == MAXP -> goto done :: else fi;
       pc[p] = need; packs = packs | (1 << p)
     };
     d_step { nextSegment < MAXI -> putIndex(1 << p) }
  fi;
commit:
  skip;
  d_step {
    if :: !IN(ended, s) -> ended = ended | (1 << s); commits = commits | (1 << s); content[s] = want :: else fi;
    check()
  };
  /* Its answer may be lost, and the call is made again. */
  if :: goto commit :: skip fi;
  d_step {
#ifndef M_NO_LAST_LOOK
    if :: IN(commits, s) && IN(sess, s) -> told = told | (1 << s) :: else fi;
#else
    told = told | (1 << s);
#endif
    check()
  };
done:
  skip
}

proctype Collector() {
  byte n, t, m, open, points, roots, index, listed, gone, p, round = 0;
  bool all;
again:
  if :: round == ROUNDS -> goto done :: else fi;
  d_step { round++; m = 0; newest(n) };
  if
  :: d_step { IN(gens, n) -> t = T[n]; all = IN(whole, n) }; if :: all -> t = packs :: else fi
  :: d_step { !IN(gens, n) -> skip }; goto again
  fi;
  atomic {
    listed = packs;
#ifdef M_NOT_CARRIED
    m = 0;
#else
    m = t & listed;
#endif
    p = 0;
    do
    :: p < MAXP -> if :: IN(listed, p) -> m = m | (1 << p) :: skip fi; p++
    :: else -> break
    od
  };
  if
#ifdef M_WHOLE_AS_OWN
  :: m == (t & listed) -> d_step { m = n; listed = 0 } /* nothing new: goes on as n's collector */
#else
  :: m == (t & listed) && !all -> d_step { m = n; listed = 0 } /* nothing new: goes on as n's collector */
#endif
  :: else ->
     if :: n + 1 == MAXG || n + 1 == FAR -> goto done :: else fi; /* nobody comes so far */
     if
     :: d_step { !IN(gens, n + 1) && (NK == 0 || gens != 0) -> gens = gens | (1 << (n + 1)); T[n + 1] = m; t = m; m = n + 1; listed = 0 }
     :: d_step { IN(gens, n + 1) -> skip }; goto again
     fi
  fi;
#ifndef M_NO_SECOND_LISTING
  d_step { newest(n) };
  if :: n != m -> goto again :: else fi;
#endif
  d_step {
    open = 0; i_ = 0;
    do :: i_ < NS -> if :: IN(sess, i_) && !IN(ended, i_) && sgen[i_] < m -> open = open | (1 << i_) :: else fi; i_++ :: else -> break od
  };
#ifndef M_NOBODY_ASKED
  p = 0;
  do
  :: p < NS && IN(open, p) ->
     if
     :: d_step { if :: !IN(ended, p) -> ended = ended | (1 << p) :: else fi }; p++ /* fenced */
     :: d_step { IN(ended, p) || !IN(sess, p) -> p++ }                            /* waited for */
     fi
  :: p < NS && !IN(open, p) -> p++
  :: else -> break
  od;
#endif
  open = 0;
#ifdef M_PINS_FIRST
  d_step { roots = 0; i_ = 0; do :: i_ < NR -> if :: IN(pinned, i_) -> roots = roots | (1 << pin[i_]) :: else fi; i_++ :: else -> break od; skip };
#endif
  points = commits;
  points = points & sess;
#if NR > 0 && !defined(M_PINS_FIRST)
  d_step { roots = 0; i_ = 0; do :: i_ < NR -> if :: IN(pinned, i_) -> roots = roots | (1 << pin[i_]) :: else fi; i_++ :: else -> break od; skip };
#endif
  /* Of a pinned point whose end is gone nobody can tell what it needs. */
  roots = points | (roots & commits);
  d_step {
    points = 0; i_ = 0;
    do :: i_ < NS -> if :: IN(roots, i_) -> points = points | content[i_] :: else fi; i_++ :: else -> break od;
    roots = 0
  };
#if NM > 0
  open = segs;
  d_step { index = 0; i_ = 0; do :: i_ < MAXI -> if :: IN(open, i_) && IN(segs, i_) -> index = index | seg[i_] :: else fi; i_++ :: else -> break od; open = 0 };
#else
  d_step { indexNow(); index = index_ };
#endif
  d_step {
    listed = packs;
    index = index & listed;
    gone = 0;
    chunksOf(index);
    if
    :: (points & ~have_) != 0 -> skip /* not all that is needed can be seen: fails closed */
    :: else ->
       x_ = 0;
       do
       :: x_ < MAXP ->
          if
          :: IN(t, x_) && IN(listed, x_) ->
#ifdef M_ANY_OTHER_COPY
             chunksOf(index & ~(1 << x_));
#else
             chunksOf(index & ~t);
#endif
             if :: (pc[x_] & points & ~have_) == 0 -> gone = gone | (1 << x_) :: else fi
          :: else
          fi;
          x_++
       :: else -> break
       od;
       skip
    fi;
    index = 0; listed = 0; points = 0; t = 0; p = 0
  };
  do
  :: p < MAXP && IN(gone, p) -> d_step { packs = packs & ~(1 << p); p++; check() }
  :: p < MAXP && !IN(gone, p) -> p++
  :: else -> break
  od;
  atomic { gone = 0; p = 0 };
  do
  :: p < m -> d_step { gens = gens & ~(1 << p); p++ }
  :: else -> break
  od;
  p = 0;
  goto again;
done:
  skip
}

/* Removes a point on purpose, for ever. */
proctype Expiry() {
  byte s;
  atomic { select(s : 0 .. NS - 1); (IN(commits, s) && IN(sess, s)) };
  d_step { expired = expired | (1 << s) };
#ifdef M_END_FIRST
  d_step { ended = ended & ~(1 << s); commits = commits & ~(1 << s); check() };
  d_step { sess = sess & ~(1 << s); check() };
  expired = expired & ~(1 << s);
  d_step { check() }
#else
  d_step { sess = sess & ~(1 << s) };
#if NR > 0 && !defined(M_PINS_NOT_ASKED)
  d_step { x_ = 0; i_ = 0; do :: i_ < NR -> if :: IN(pinned, i_) && pin[i_] == s -> x_ = 1 :: else fi; i_++ :: else -> break od; if :: x_ -> s = NS :: else fi };
  if :: s == NS -> goto done :: else fi;
#endif
  d_step { ended = ended & ~(1 << s); commits = commits & ~(1 << s) };
#endif
done:
  skip
}

/* Clears an aborted session, or an end whose session is gone. */
proctype Cleaning() {
  byte s;
  if
  :: atomic { select(s : 0 .. NS - 1); (IN(sess, s) && IN(ended, s) && !IN(commits, s)) };
#ifndef M_SESSION_STAYS
     d_step { sess = sess & ~(1 << s) };
#endif
     d_step { ended = ended & ~(1 << s); commits = commits & ~(1 << s) }
  :: atomic { select(s : 0 .. NS - 1); IN(ended, s) };
     if
     :: d_step { !IN(sess, s) -> skip };
        if :: IN(expired, s) -> goto done :: else fi; /* Expiry does that, which asks for pins. */
        d_step { ended = ended & ~(1 << s); commits = commits & ~(1 << s) }
     :: else
     fi
  fi;
done:
  skip
}

#if NR > 0
proctype Reader(byte r) {
  atomic { select(x_ : 0 .. NS - 1); (IN(commits, x_) && IN(sess, x_)); pin[r] = x_ };
#ifndef M_READER_LOOKS_FIRST
  pinned = pinned | (1 << r);
#endif
  if
  :: d_step { IN(commits, pin[r]) && IN(sess, pin[r]) -> skip }
  :: else -> goto done
  fi;
#ifdef M_READER_LOOKS_FIRST
  pinned = pinned | (1 << r);
#endif
  /* Its end is read once more; without it there is nothing to read. */
  if :: d_step { IN(commits, pin[r]) -> reading = reading | (1 << r); check() } :: else -> assert(false) fi;
done:
  skip;
  d_step { reading = reading & ~(1 << r); pinned = pinned & ~(1 << r) }
}
#endif

/* Writes an indexed pack anew; a collector then marks the old one, or the new one, as any. */
proctype Repack() {
  byte p, q, chunks;
  atomic { select(p : 0 .. MAXP - 1); indexNow(); (IN(packs & index_, p)); chunks = pc[p] };
  atomic { freshPack(q); if :: q == MAXP -> goto done :: else -> pc[q] = chunks; packs = packs | (1 << q) fi };
  d_step { nextSegment < MAXI -> putIndex(1 << q) };
done:
  skip
}

proctype Merge() {
  byte old, listed, all, i = 0;
#ifdef M_MERGE_LISTS_FIRST
  listed = packs;
#endif
  old = segs;
  d_step { all = 0; i_ = 0; do :: i_ < MAXI -> if :: IN(old, i_) && IN(segs, i_) -> all = all | seg[i_] :: else -> old = old & ~(1 << i_) fi; i_++ :: else -> break od; skip };
#ifndef M_MERGE_LISTS_FIRST
  listed = packs;
#endif
  d_step { nextSegment < MAXI -> putIndex(all & listed) };
  do
  :: i < MAXI && IN(old, i) -> d_step { segs = segs & ~(1 << i); i++; check() }
  :: i < MAXI && !IN(old, i) -> i++
  :: else -> break
  od
}

#if NK > 0
/*
 * Somebody removes every generation, or hides it. (A collector that was about to make one may then take the number of one that is
 * lost, until there is another: no repair that comes later helps against that, so it is left out.)
 */
proctype Loss() {
  d_step { gens = 0 }
}

/* Puts one that nobody can be ahead of, and by which nothing may be reused. */
proctype Repair() {
  d_step { gens == 0 -> skip };
#ifdef M_REPAIR_EMPTY
  d_step { if :: !IN(gens, FAR) -> gens = gens | (1 << FAR) :: else fi }
#else
  d_step { if :: !IN(gens, FAR) -> gens = gens | (1 << FAR); whole = whole | (1 << FAR) :: else fi }
#endif
}
#endif

init {
  byte k;
  atomic {
    d_step { pc[0] = ALL; seg[0] = 1; content[0] = 1; check() };
    k = 0; do :: k < NW -> run Writer(1 + k * ATT); k++ :: else -> break od;
    k = 0; do :: k < NC -> run Collector(); k++ :: else -> break od;
    k = 0; do :: k < NX -> run Expiry(); k++ :: else -> break od;
    k = 0; do :: k < NL -> run Cleaning(); k++ :: else -> break od;
    k = 0; do :: k < NP -> run Repack(); k++ :: else -> break od;
    k = 0; do :: k < NM -> run Merge(); k++ :: else -> break od;
#if NK > 0
    k = 0; do :: k < NK -> run Loss(); k++ :: else -> break od;
    k = 0; do :: k < NK -> run Repair(); k++ :: else -> break od;
#endif
#if NR > 0
    k = 0; do :: k < NR -> run Reader(k); k++ :: else -> break od;
#endif
    k = 0
  }
}

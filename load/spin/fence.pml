/* One shard row (the fence) and one conversation of that shard. Two owners may both believe that they own
   the shard. A commit statement may run at once, later (a zombie) or never; its reply may be lost; owners crash.
   Asserted: one position per message, no gap, no overwritten position, an ack names the stored position,
   an attempt reported as failed is never stored, and whoever passes the fence knows the true head. */
#ifndef RESTAMP
#define RESTAMP 1
#endif
#ifndef FENCED
#define FENCED 1
#endif
#ifndef EPOCHS
#define EPOCHS 5
#endif
#define CAP 3
#define NATT 4
byte fence, head, epoch, natt;      /* fence: the epoch in the shard row; head: true last seq; epoch: last one given out */
byte log[4];                        /* log[1..3] = message ids, 0 = free */
byte ack_[4];                       /* per message: acknowledged position, 0 = none */
bit failed[NATT+1];                 /* per attempt: told "did not and will not commit" */
byte claims, crashes;
typedef stmt { bit used; byte ep; byte last; byte m; byte att };
stmt z[2];                          /* statements still under way */
inline commit(x_e, x_l, x_m, x_t, x_k) {
  if
#if FENCED
  :: (fence==x_e && x_l<CAP && log[1]!=x_m && log[2]!=x_m && log[3]!=x_m) -> assert(x_l==head);
#else
  :: (x_l<CAP && log[1]!=x_m && log[2]!=x_m && log[3]!=x_m && log[x_l+1]==0) ->
#endif
       assert(!failed[x_t]); assert(log[x_l+1]==0); log[x_l+1]=x_m; head=x_l+1; x_k=1
  :: else -> x_k=0
  fi }
inline stamp(y_e, y_l, y_k) {       /* a fresh epoch for the one that still holds the fence */
  if :: (fence==y_e && y_e>0 && epoch<EPOCHS) -> epoch++; fence=epoch; y_e=epoch; y_l=head; y_k=1
     :: else -> y_k=0 fi }
inline find(p_m, p_r) { if :: (log[1]==p_m) -> p_r=1 :: (log[2]==p_m) -> p_r=2 :: (log[3]==p_m) -> p_r=3 :: else -> p_r=0 fi }
inline ack(k_m, k_p) { assert(ack_[k_m]==0 || ack_[k_m]==k_p); ack_[k_m]=k_p }
proctype owner() {
  byte ep=0, last=0, m=0, t=0, p=0; bit ok=0, have=0;   /* have: I believe that I am the owner; m: message under way */
  do
  :: atomic { (claims<3 && epoch<EPOCHS && m==0) -> claims++; epoch++; fence=epoch; ep=epoch; last=head; have=1 }
  :: atomic { (have && m==0 && natt<NATT) -> natt++; t=natt; if :: m=1 :: m=2 :: m=3 fi;
       find(m,p); if :: (p>0) -> ack(m,p); m=0; t=0 :: else fi; p=0 }
  :: atomic { (have && m!=0) -> commit(ep,last,m,t,ok);                          /* ran, reply arrived */
       if :: ok -> last=head; ack(m,last) :: else -> have=0 fi; m=0; t=0; ok=0 }
  :: atomic { (have && m!=0) ->                                                  /* reply lost */
       if :: commit(ep,last,m,t,ok)
          :: (!z[0].used) -> z[0].used=1; z[0].ep=ep; z[0].last=last; z[0].m=m; z[0].att=t
          :: (!z[1].used) -> z[1].used=1; z[1].ep=ep; z[1].last=last; z[1].m=m; z[1].att=t
          :: skip
       fi; have=0; ok=0 }                                                        /* m!=0 && !have: must recover */
  :: atomic { (!have && m!=0) ->                                                 /* recovery */
#if RESTAMP
       stamp(ep,last,ok); have=ok;
#else
       last=head; have=1; ok=1;
#endif
       find(m,p);
       if :: (p>0 && ok) -> ack(m,p)
          :: (p>0 && !ok) -> skip                                                /* the new owner answers */
          :: (p==0 && (ok || fence>ep)) -> failed[t]=1
          :: (p==0 && !ok && fence<=ep) -> skip                                  /* stays unknown */
       fi; m=0; t=0; p=0; ok=0 }
  :: atomic { (crashes<1) -> crashes++; have=0; m=0; t=0; ep=0; last=0 }
  od }
proctype net() { byte e_,l_,m_,t_; bit ok=0; do
  :: atomic { (z[0].used) -> e_=z[0].ep; l_=z[0].last; m_=z[0].m; t_=z[0].att; commit(e_,l_,m_,t_,ok); z[0].used=0; z[0].ep=0; z[0].last=0; z[0].m=0; z[0].att=0; e_=0;l_=0;m_=0;t_=0;ok=0 }
  :: atomic { (z[1].used) -> e_=z[1].ep; l_=z[1].last; m_=z[1].m; t_=z[1].att; commit(e_,l_,m_,t_,ok); z[1].used=0; z[1].ep=0; z[1].last=0; z[1].m=0; z[1].att=0; e_=0;l_=0;m_=0;t_=0;ok=0 }
  od }
active proctype monitor() { end: atomic { !(
     (log[1]!=0 || (log[2]==0 && log[3]==0)) && (log[2]!=0 || log[3]==0)                         /* no gap */
  && (log[1]==0 || (log[1]!=log[2] && log[1]!=log[3])) && (log[2]==0 || log[2]!=log[3])          /* once */
  && (ack_[1]==0 || log[ack_[1]]==1) && (ack_[2]==0 || log[ack_[2]]==2) && (ack_[3]==0 || log[ack_[3]]==3)
  ) -> assert(0) } }
init { atomic { run owner(); run owner(); run net() } }

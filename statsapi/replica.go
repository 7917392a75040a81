package statsapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/firstseen/firstseen/schema"
)

// Replica tells how this process stands towards the writer that it follows.
type Replica interface {
	State() schema.ReplicaState
}

// AuditReader tells what operators did to the store by hand.
type AuditReader interface {
	// Audit returns the latest entries, the last first.
	Audit(ctx context.Context, limit int) ([]schema.AuditEntry, error)
}

// auditEntries is how many of them an answer shows.
const auditEntries = 20

// ReplicaStatus is how a replica stands. What is not known is null.
type ReplicaStatus struct {
	Env    string `json:"env" doc:"The environment that it belongs to."`
	Role   string `json:"role" doc:"Of the writer that it follows."`
	Phase  string `json:"phase" enum:"starting,catching_up,following,waiting,halted" doc:"What it is doing: following means that it has all that the writer shipped; waiting, that an object or the store is missing; halted, that an operator must look."`
	Reason string `json:"reason" doc:"Why it is in that phase; empty while all is well."`
	Since  Time   `json:"since" doc:"Of the phase."`

	AppliedSeq Number         `json:"applied_seq" doc:"The last row of the writer's feed that is applied."`
	WriterSeq  OptionalNumber `json:"writer_seq" doc:"The last row that the writer is known to have."`
	LagSeconds *float64       `json:"lag_seconds" minimum:"0" doc:"How far behind the writer's last word what is served can be."`
	WriterAt   OptionalTime   `json:"writer_at" doc:"When the writer last said that it lives, by its clock."`

	Chains  []ReplicaChain `json:"chains" nullable:"false" doc:"By chain id."`
	Digests ReplicaDigests `json:"digests"`
	Audit   []AuditEntry   `json:"audit" nullable:"false" doc:"What operators did to this replica by hand, the latest first; at most 20."`
}

// ReplicaChain is a replica's lag on one chain.
type ReplicaChain struct {
	Chain        Number         `json:"chain"`
	Number       Number         `json:"number" doc:"The height of the head here."`
	WriterNumber OptionalNumber `json:"writer_number" doc:"And at the writer."`
	LagBlocks    OptionalNumber `json:"lag_blocks"`
}

// ReplicaDigests is how ranges of heights compared with the writer's.
type ReplicaDigests struct {
	Equal  Number         `json:"equal" doc:"Ranges found equal since this process began."`
	Differ []ReplicaRange `json:"differ" nullable:"false" doc:"Ranges that are not as the writer has them. There should be none."`
}

// ReplicaRange is a range of heights.
type ReplicaRange struct {
	Chain Number `json:"chain"`
	From  Number `json:"from" doc:"Heights, both included."`
	To    Number `json:"to"`
	Seq   Number `json:"seq" doc:"The row of the writer's feed after which they were compared."`
}

// AuditEntry is one thing that an operator did by hand.
type AuditEntry struct {
	At     Time           `json:"at"`
	Actor  string         `json:"actor" doc:"Whose process it was: user@host."`
	Action string         `json:"action" doc:"rewind or switch."`
	Detail map[string]any `json:"detail" doc:"What belongs to that action."`
}

type replicaOutput struct{ Body ReplicaStatus }

func (a *API) routeReplica() {
	get(a, "/v1/replica", "getReplica", "How this replica stands towards its writer", a.getReplica, http.StatusNotFound)
}

func (a *API) getReplica(ctx context.Context, _ *struct{}) (*replicaOutput, error) {
	if a.opts.Replica == nil {
		return nil, notFound("this process is no replica: `firstseen follow` makes one")
	}
	entries, err := a.opts.Store.Audit(ctx, auditEntries)
	if err != nil {
		return nil, err
	}
	out := replicaStatus(a.opts.Replica.State())
	for _, e := range entries {
		shown := AuditEntry{At: Time{e.At}, Actor: e.Actor, Action: e.Action}
		if err := json.Unmarshal([]byte(e.Detail), &shown.Detail); err != nil || shown.Detail == nil {
			shown.Detail = map[string]any{}
		}
		out.Audit = append(out.Audit, shown)
	}
	return &replicaOutput{Body: out}, nil
}

func replicaStatus(s schema.ReplicaState) ReplicaStatus {
	out := ReplicaStatus{
		Env: s.Env, Role: s.Role, Phase: string(s.Phase), Reason: s.Reason, Since: Time{s.Since},
		AppliedSeq: Number(s.Seq), WriterSeq: optional(s.End),
		Chains: []ReplicaChain{}, Digests: ReplicaDigests{Equal: Number(s.Digests), Differ: []ReplicaRange{}},
		Audit: []AuditEntry{},
	}
	if s.Lag != nil {
		lag := s.Lag.Seconds()
		out.LagSeconds = &lag
	}
	if s.WriterAt != nil {
		out.WriterAt = OptionalTime{&Time{*s.WriterAt}}
	}
	for _, c := range s.Chains {
		out.Chains = append(out.Chains, ReplicaChain{
			Chain: Number(c.Chain), Number: Number(c.Number), WriterNumber: optional(c.Writer), LagBlocks: optional(c.Lag),
		})
	}
	for _, d := range s.Differ {
		out.Digests.Differ = append(out.Digests.Differ, ReplicaRange{
			Chain: Number(d.Chain), From: Number(d.From), To: Number(d.To), Seq: Number(d.Seq),
		})
	}
	return out
}

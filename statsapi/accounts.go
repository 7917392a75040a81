package statsapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// countedTo is how far an account's transactions are counted. Counting more would cost more than anybody wants to know.
const countedTo = 10_000

// Account is what the stored transactions tell of an account; balances they do not.
type Account struct {
	Address string           `json:"address" pattern:"^0x[0-9a-f]{40}$"`
	Chains  []AccountOnChain `json:"chains" nullable:"false" doc:"Those on which it was seen."`
}

// AccountOnChain is an account's part in one chain. Transactions of siblings count as often as they are stored.
type AccountOnChain struct {
	Chain       Number             `json:"chain"`
	Sent        Number             `json:"sent" doc:"Transactions that it sent; 10000 means so many or more."`
	Received    Number             `json:"received" doc:"Transactions to it; 10000 means so many or more."`
	CreatedBy   *PlacedTransaction `json:"created_by,omitempty" doc:"The transaction that created it, if it is a contract and that was seen."`
	FirstNumber Number             `json:"first_number" doc:"The lowest height at which it was seen."`
	LastNumber  Number             `json:"last_number" doc:"The highest."`
}

// TransactionList is a part of a list of transactions.
type TransactionList struct {
	Data       []PlacedTransaction `json:"data" nullable:"false"`
	NextCursor *string             `json:"next_cursor" doc:"Pass it as cursor to go on; null at the end."`
	*PageBar
}

type accountInput struct {
	Address string     `path:"address" doc:"The account's address, with or without 0x."`
	Chain   chainParam `query:"chain" doc:"Only on this chain."`
}

type accountOutput struct{ Body Account }

func (a *API) routeAccounts() {
	get(a, "/v1/accounts/{address}", "getAccount", "What transactions tell of an account", a.getAccount, http.StatusNotFound)
	get(a, "/v1/accounts/{address}/transactions", "listAccountTransactions",
		"An account's transactions, those of the highest block first", a.listAccountTransactions, http.StatusNotFound)
}

func (a *API) getAccount(ctx context.Context, in *accountInput) (*accountOutput, error) {
	account, chains, err := a.accountOn(ctx, in.Address, in.Chain)
	if err != nil {
		return nil, err
	}
	out := Account{Address: account.String(), Chains: []AccountOnChain{}}
	for _, chain := range chains {
		state, err := a.opts.Store.AccountOn(ctx, chain, account, countedTo)
		if err != nil {
			return nil, err
		}
		if state == nil {
			continue
		}
		on := AccountOnChain{
			Chain: Number(chain), Sent: Number(state.Sent), Received: Number(state.Received),
			FirstNumber: Number(state.FirstSeen), LastNumber: Number(state.LastSeen),
		}
		if state.Created != nil {
			on.CreatedBy = new(placedOf(*state.Created))
		}
		out.Chains = append(out.Chains, on)
	}
	if len(out.Chains) == 0 {
		return nil, notFound("no transaction with account %s is stored", account)
	}
	return &accountOutput{Body: out}, nil
}

// accountOn reads an address and the chains to look on.
func (a *API) accountOn(ctx context.Context, text string, named chainParam) (schema.Address, []uint64, error) {
	account, err := schema.ParseAddress(text)
	if err != nil {
		return account, nil, notFound("no account %q: an address is 40 hex digits", clip(text))
	}
	chain, err := named.read()
	if err != nil {
		return account, nil, err
	}
	chains, err := a.listedChains(ctx, chain)
	return account, chains, err
}

type accountListInput struct {
	PlaceQuery
	Address   string       `path:"address" doc:"The account's address, with or without 0x."`
	Chain     chainParam   `query:"chain" doc:"Only on this chain."`
	Role      string       `query:"role" enum:"sender,recipient,contract" doc:"Only what it sent, or received, or what created it."`
	From      addressParam `query:"from" doc:"Only from this account."`
	To        addressParam `query:"to" doc:"Only to this account."`
	MinValue  weiParam     `query:"min_value" doc:"Only of so many wei or more."`
	Status    statusParam  `query:"status" doc:"Only in blocks of this status; several with commas."`
	MinNumber heightParam  `query:"min_number" doc:"Only in blocks of this height or above."`
	MaxNumber heightParam  `query:"max_number" doc:"Only in blocks of this height or below."`
	Page      pageParam    `query:"page" doc:"Go to a page, up to 10000 rows far. Costs more the farther it leads."`
	Sort      string       `query:"sort" enum:"number,-number" doc:"By height, with a minus the highest first, which is the default."`
}

type transactionsOutput struct {
	Link string `header:"Link"`
	Body TransactionList
}

func (in *accountListInput) read(account schema.Address, chains []uint64) (f schema.TransactionFilter, err error) {
	f = schema.TransactionFilter{Account: account, Chains: chains}
	if in.Role != "" {
		roles := []schema.AccountRole{schema.RoleSender, schema.RoleRecipient, schema.RoleContract}
		if !slices.Contains(roles, schema.AccountRole(in.Role)) {
			return f, badParameter("role", in.Role, "must be sender, recipient or contract")
		}
		f.Roles = []schema.AccountRole{schema.AccountRole(in.Role)}
	}
	if f.Sender, err = in.From.read("from"); err != nil {
		return f, err
	}
	if f.Recipient, err = in.To.read("to"); err != nil {
		return f, err
	}
	if f.MinValue, err = in.MinValue.read("min_value"); err != nil {
		return f, err
	}
	if f.Statuses, err = in.Status.read(); err != nil {
		return f, err
	}
	if f.From, err = in.MinNumber.read("min_number"); err != nil {
		return f, err
	}
	f.To, err = in.MaxNumber.read("max_number")
	return f, err
}

func (a *API) listAccountTransactions(ctx context.Context, in *accountListInput) (*transactionsOutput, error) {
	account, chains, err := a.accountOn(ctx, in.Address, in.Chain)
	if err != nil {
		return nil, err
	}
	f, err := in.read(account, chains)
	if err != nil {
		return nil, err
	}
	limit, err := in.Limit.read()
	if err != nil {
		return nil, err
	}
	ascending, err := sorted(in.Sort, "number")
	if err != nil {
		return nil, err
	}
	page, err := readPage(in.Page, in.Cursor, in.Page != "" && in.countable())
	if err != nil {
		return nil, err
	}
	out := &transactionsOutput{Body: TransactionList{Data: []PlacedTransaction{}}}
	var (
		found []schema.PlacedTransaction
		next  *schema.TransactionPlace
	)
	if page > 0 {
		found, next, out.Body.PageBar, err = a.transactionPage(ctx, in, f, ascending, page, limit)
	} else {
		found, next, err = a.transactionPart(ctx, in, f, ascending, limit)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range found {
		out.Body.Data = append(out.Body.Data, placedOf(p))
	}
	if next != nil {
		out.Body.NextCursor = new(sealCursor(transactionCursor, next.Number, next.Chain, next.Index, next.ID))
	}
	out.Link = links(in.url, out.Body.NextCursor, page, out.Body.PageBar)
	return out, nil
}

// countable tells whether indexes alone serve all conditions, so that what they leave can be counted.
func (in *accountListInput) countable() bool {
	return in.From == "" && in.To == "" && in.MinValue == "" && in.Status == ""
}

func (a *API) transactionPart(
	ctx context.Context, in *accountListInput, f schema.TransactionFilter, ascending bool, limit int,
) ([]schema.PlacedTransaction, *schema.TransactionPlace, error) {
	var after *schema.TransactionPlace
	if in.Cursor != "" {
		after = &schema.TransactionPlace{}
		err := openCursor(in.Cursor, transactionCursor, &after.Number, &after.Chain, &after.Index, &after.ID)
		if err != nil {
			return nil, nil, err
		}
	}
	return a.opts.Store.ListTransactions(ctx, f, ascending, after, limit)
}

// transactionPage counts only so far, and pages no farther.
func (a *API) transactionPage(
	ctx context.Context, in *accountListInput, f schema.TransactionFilter, ascending bool, page uint64, limit int,
) ([]schema.PlacedTransaction, *schema.TransactionPlace, *PageBar, error) {
	skip, ok := skipped(page, limit)
	if !ok || skip+limit > countedTo {
		return nil, nil, nil, badParameter("page", string(in.Page), "is too far for pages; follow cursor")
	}
	total, err := a.opts.Store.CountTransactions(ctx, f, countedTo)
	if err != nil {
		return nil, nil, nil, err
	}
	found, next, err := a.opts.Store.PageTransactions(ctx, f, ascending, skip, limit)
	return found, next, pageBar(in.url, page, total, uint64(limit)), err
}

// distinct returns each number once, from the lowest.
func distinct(numbers []uint64) []uint64 {
	numbers = slices.Clone(numbers)
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

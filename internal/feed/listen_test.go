package feed

import "testing"

func TestWhoListensIsWokenByNews(t *testing.T) {
	t.Parallel()
	h := NewHints(HintsOptions{})
	news, end := h.Listen()
	h.Tell(1)
	h.Tell(2) // nobody has looked yet
	<-news
	select {
	case <-news:
		t.Error("woken twice for what one look finds")
	default:
	}
	end()
	h.Tell(3)
	select {
	case <-news:
		t.Error("woken though it has ended")
	default:
	}
}
